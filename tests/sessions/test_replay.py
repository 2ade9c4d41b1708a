from __future__ import annotations

from typing import Any

import msgspec
import pytest

from capsule.cli.files import FileLoader
from capsule.egress.frames import Egress
from capsule.egress.judgement import Judge
from capsule.policy.merge import resolve
from capsule.policy.model import Source
from capsule.rules.engine import compile_rules
from capsule.rules.entry import event_of
from capsule.rules.rule import parse_rules
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sessions.replay import Comparison, Replay, decided, grouped, ranked, times
from tests.sessions.recorded import ALLOW, BLOCK, connect, denied, dns, exec_, http, model, tcp, write

POLICY = b"""
version: 1
extends: [strict]
filesystem: {write: [./out], read: [.]}
process: {programs: [/usr/bin/git]}
network:
  ports: [5432]
  hosts: [{host: a.example, methods: [GET], paths: ["/v1/**"]}, {host: b.example, ports: [443]}]
  unlisted: UNLISTED
"""
RULES = """
version: 1
rules:
  - {id: no-b, on: http, when: http.host == "b.example" && http.path.startsWith("/no"), action: block, reason: closed}
  - {id: body, on: http, when: 'http.host == "b.example" && http.path == "/body" && http.body.size > 3', action: block}
  - {id: ask-b, on: http, when: http.path == "/ask", action: ask}
"""


def replay(unlisted: str = "deny", *, hosts: bool = True, read: str = "", **more: Any) -> Replay:
    text = POLICY.replace(b"UNLISTED", unlisted.encode())
    text = text.replace(b"read: [.]", f"read: [., {read}]".encode()) if read else text
    if not hosts:
        text = text.split(b"  hosts")[0]
    policy = resolve(Source("/w/policy.yaml", text), FileLoader())
    plan = compile_policy(policy)
    judge = None
    if plan.network.egress is not None:
        egress = msgspec.json.decode(msgspec.json.encode(plan.network.egress), type=Egress)
        judge = Judge(egress, compile_rules([parse_rules(RULES, "/w/rules.yaml")]))
    return Replay(Access(plan, Variables("/w", "/home/u", "/w")), judge, **more)


def test_variables_are_decided_by_name() -> None:
    policy = resolve(
        Source("/w/policy.yaml", b"version: 1\nextends: [strict]\nenv: {pass: [A, 'X*'], set: {S: v}}\n"),
        FileLoader(),
    )
    access = Access(compile_policy(policy), Variables("/w", "/h", "/w"), policy.sections.environment)
    anew = Replay(access, None)

    def variable(name: str, by: str = "caller") -> str | None:
        answer = anew.decide("environment", {"environment": {"name": name, "from": by}})
        return None if answer is None else answer.outcome

    assert [variable(name) for name in ("A", "B", "S", "X_TOKEN", "PATH")] == [
        "allow", "block", "allow", "block", "allow",
    ]  # fmt: skip
    assert variable("S", "policy") == "allow"
    assert variable("B", "policy") == "block"
    assert variable("A", "policy") is None, "whether the caller had one is not on the log"


def decide(entry: dict[str, Any], made: Replay | None = None) -> tuple[str, str] | None:
    kind, event = event_of({"time": "2026-11-25T19:13:30.574058Z", **entry})
    answer = (made or replay()).decide(kind, event)
    return None if answer is None else (answer.outcome, answer.place or answer.why)


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        (write("/w/out/a"), "allow"),
        (write("/w/src/a"), "block"),
        (write("/w/src/a", "read"), "allow"),
        (write("/w/out/b", "rename", source="/w/src/b"), "block"),
        (write("/w/out/b", "rename", source="/w/out/c"), "allow"),
        (exec_(), "allow"),
        (exec_(program="/usr/bin/nc"), "block"),
        (denied("/usr/bin/git", "execute"), "allow"),
        (connect("tcp:127.0.0.1:5432"), "allow"),
        (connect("tcp:127.0.0.1:22"), "block"),
        (connect("unix:/run/x"), "block"),
        (http("a.example", "/v1/x"), "allow"),
        (http("a.example", "/v2"), "block"),
        (http("a.example", "/v1/x", "POST"), "block"),
        (http("b.example", "/no/x"), "block"),
        (http("b.example", "/yes"), "allow"),
        (http("b.example", "/ask"), "ask"),
        (http("b.example", "/body"), "ask"),
        (http("c.example"), "block"),
        (dns("a.example"), "allow"),
        (dns("c.example"), "block"),
        (tcp("b.example"), "allow"),
        (tcp("c.example"), "block"),
    ],
)
def test_every_kind_of_event_is_decided(entry: dict[str, Any], outcome: str) -> None:
    found = decide(entry)
    assert found is not None
    assert found[0] == outcome


def test_the_line_that_decides_is_named() -> None:
    assert decide(write("/w/out/a")) == ("allow", "/w/policy.yaml:4")
    assert decide(http("b.example", "/no/x")) == ("block", "/w/rules.yaml:4")


def test_names_that_are_asked_about() -> None:
    assert decide(http("c.example"), replay("ask")) == ("ask", "no host entry lists c.example")


def test_without_hosts_nothing_goes_out() -> None:
    for entry in (http("a.example"), dns("a.example"), tcp("a.example")):
        found = decide(entry, replay(hosts=False))
        assert found is not None
        assert found[0] == "block"


def test_what_a_log_does_not_have_is_not_decided() -> None:
    for entry in (
        model(), denied("mount", "syscall"), write("relative"), connect("tcp:x"), http("not a host", "/"),
        {"type": "egress.http", "run": "r-1"}, {"type": "exec", "run": "r-1"},
        {"type": "write", "run": "r-1", "target": 3}, write("/run/capsule/bundle.pem", "read"),
        {"type": "egress.tcp", "run": "r-1", "tcp": {"host": "a.example", "port": "x"}},
    ):  # fmt: skip
        assert decide(entry) is None, entry


def test_changes_are_counted_and_ranked() -> None:
    compared = Comparison()
    entries = [
        write("/w/src/a"), write("/w/src/a"), write("/w/out/a"), denied("/usr/bin/git", "execute", count=5),
        http("b.example", "/ask"), model(), dns("c.example", decision=BLOCK), dns("a.example", decision=ALLOW),
    ]  # fmt: skip
    made = replay()
    for seq, entry in enumerate(entries):
        kind, event = event_of({"time": "t", **entry})
        compared.add(made, "r-1", seq, kind, event)
    assert (compared.changed, compared.undecided) == (8, 1)
    assert compared.same == 1 + 3 + 3
    found = [
        (change.was, change.now, change.what, change.count, change.seq)
        for change in ranked(compared.changes.values())
    ]
    assert found == [
        ("allow", "block", "create ./src/a", 2, 0),
        ("allow", "ask", "GET b.example/ask", 1, 4),
        ("block", "allow", "run /usr/bin/git", 5, 3),
    ]


def test_many_names_in_one_place_are_one_line() -> None:
    compared, made = Comparison(), replay()
    for seq in range(9):
        kind, event = event_of({"time": "t", **write(f"/w/src/{seq}")})
        compared.add(made, "r-1", seq, kind, event)
    (one,) = grouped(compared.changes.values())
    assert (one.what, one.count) == ("create ./src/… (9 names)", 9)
    assert len(grouped(list(compared.changes.values())[:3])) == 3


def test_what_was_decided() -> None:
    assert decided({"decision": {"action": "rewrite"}}) == decided({}) == decided({"decision": 3}) == "allow"
    assert decided({"decision": {"action": "block"}}) == "block"
    assert (times({}), times({"denial": {"count": 4}})) == (1, 4)
    assert (times({"dns": {"count": 0}}), times({"dns": []})) == (1, 1)


def test_lines_about_repositories_hold_but_in_those_that_the_run_made() -> None:
    policy = resolve(Source("/w/policy.yaml", b"version: 1\nextends: [workspace]\n"), FileLoader())
    made = Replay(Access(compile_policy(policy), Variables("/w", "/home/u", "/w")), None)

    def outcome(path: str) -> str:
        answer = made.decide("file", {"file": {"operation": "write", "path": path}})
        assert answer is not None
        return answer.outcome

    hook = "/w/sub/.git/hooks/pre-commit"
    assert outcome(hook) == "block"
    made.follow({"number": 1, "target": "/w/sub/.git"})
    assert outcome(hook) == "allow"
    assert outcome("/w/other/.git/hooks/pre-commit") == "block"
    made.follow({"number": 1, "target": "/w/moved/.git"})
    assert (outcome(hook), outcome("/w/moved/.git/hooks/x")) == ("block", "allow")
    made.follow({"number": 1, "target": None})
    made.follow({"number": "2", "target": "/w/other/.git"})
    assert (outcome("/w/moved/.git/hooks/x"), outcome("/w/other/.git/hooks/x")) == ("block", "block")


@pytest.mark.parametrize("by", ["secret", "name", "protocol"])
def test_what_no_policy_lets_stays_refused(by: str) -> None:
    refused = {"action": "block", "by": by, "reason": "header x-forwarded-host names 'b.example'"}
    asked = http("a.example", "/v1/x", decision=refused)
    assert decide(asked) == ("block", refused["reason"])
    control = http("a.example", "/v1/x", decision={**refused, "by": "grant"})
    assert (decide(control) or ("", ""))[0] == "allow", "what was not listed then is now"


def test_what_a_run_keeps_is_kept_under_every_policy() -> None:
    """The policy grants /etc; a run keeps root's own files in it from its command all the same."""
    own = {"file": "capsule:always", "line": 0, "text": "only root can read it"}
    assert decide(denied("/etc/hosts")) == ("allow", "preset:strict:16")
    assert decide(denied("/etc/shadow", rule=own)) == ("block", "capsule:always")
    assert decide(denied("/etc/named", rule=own), replay(read="/etc/named")) == ("allow", "/w/policy.yaml:4")
    made = replay(kept=lambda path, want: "kept" if (path, want) == ("/etc/key", "read") else None)
    assert decide(denied("/etc/key"), made) == ("block", "capsule:always")
    assert decide(denied("/etc/hosts"), made) == ("allow", "preset:strict:16")
