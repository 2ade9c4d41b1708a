from __future__ import annotations

from typing import Any

import pytest

from capsule.cli.files import FileLoader
from capsule.policy.merge import resolve
from capsule.policy.model import Source
from capsule.rules.entry import event_of
from capsule.sessions.learn import Learner
from tests.sessions.recorded import BLOCK, connect, denied, dns, exec_, http, session, tcp, write


def learn(*entries: dict[str, Any], refused: bool = False) -> Learner:
    learner = Learner(refused=refused)
    for entry in entries:
        kind, event = event_of({"time": "t", **entry})
        learner.add(kind, event)
    return learner


def entries_of(learner: Learner) -> list[str]:
    """The host entries, after the policy's own parser took them."""
    found = [host.entry() for host in learner.hosts()]
    text = "version: 1\nextends: [strict]\nnetwork:\n  hosts:\n" + "".join(
        f"    - {entry}\n" for entry in found
    )
    resolve(Source("/w/p.yaml", text.encode()), FileLoader())
    return found


def test_files_and_programs_are_counted_by_use() -> None:
    learner = learn(
        write("/w/a"),
        write("/w/a", "write"),
        write("/w/b", "rename", source="/w/c"),
        write("/w/d", "read"),
        write("/run/capsule/bundle.pem", "read"),  # there in every run with hosts
        exec_(),
    )
    assert {path: dict(uses) for path, uses in learner.files.items()} == {
        "/w/a": {"create": 1, "write": 1}, "/w/b": {"change": 1}, "/w/c": {"remove": 1}, "/w/d": {"read": 1},
        "/usr/bin/git": {"execute": 1},
    }  # fmt: skip
    assert dict(learner.programs) == {"/usr/bin/git": 1}


def test_what_was_refused_is_listed_and_learnt_only_when_asked_for() -> None:
    refused = [
        denied("/home/u/.ssh/id_ed25519", count=3),
        denied("/x", probe=True),
        http("a.example", decision=BLOCK),
    ]
    learner = learn(*refused)
    assert (learner.files, learner.hosts()) == ({}, [])
    assert dict(learner.denied) == {"cat: read /home/u/.ssh/id_ed25519": 3, "python3: GET a.example/": 1}
    learner = learn(*refused, refused=True)
    assert learner.files["/home/u/.ssh/id_ed25519"]["read"] == 3
    assert [host.host for host in learner.hosts()] == ["a.example"]


def test_what_no_policy_lets_is_not_learnt_even_when_asked_for() -> None:
    refused = http("a.example", decision={"action": "block", "by": "name", "reason": "two Host headers"})
    learner = learn(refused, refused=True)
    assert learner.hosts() == []
    assert dict(learner.denied) == {"python3: GET a.example/": 1}


def test_a_host_has_the_methods_ports_and_paths_that_were_used() -> None:
    learner = learn(
        http("a.example", "/v1/x"),
        http("a.example", "/v1/x"),
        http("a.example", "/", "POST"),
        http("b.example", "/", port=8443),
    )
    assert entries_of(learner) == [
        '{host: "a.example", ports: [443], methods: [GET, POST], paths: ["/", "/v1/x"]}',
        '{host: "b.example", ports: [8443], methods: [GET], paths: ["/"]}',
    ]
    first = learner.hosts()[0]
    assert (first.count, first.warning) == (3, "data leaves by POST")


def test_addresses_of_the_pool_are_the_names_they_stood_for() -> None:
    entries = [dns("api.example", answer="198.18.0.2"), denied("tcp:198.18.0.2:8443", "connect")]
    assert dict(learn(*entries).denied) == {"cat: api.example:8443": 1}
    assert entries_of(learn(*entries, refused=True)) == ['{host: "api.example", ports: [8443]}']


def test_both_usual_ports_need_no_word_and_secrets_are_named() -> None:
    learner = learn(http("a.example"), http("a.example", port=80))
    assert entries_of(learner) == ['{host: "a.example", methods: [GET], paths: ["/"]}']
    assert dict(learner.secrets) == {"github": 2}


def test_many_paths_become_patterns_of_their_beginnings_or_none() -> None:
    learner = learn(
        *(http("a.example", f"/repos/acme/{n}/issues") for n in range(30)), http("a.example", "/login")
    )
    assert entries_of(learner) == [
        '{host: "a.example", ports: [443], methods: [GET], paths: ["/login", "/repos/acme/**"]}'
    ]
    wide = learn(*(http("a.example", f"/{n}") for n in range(30)))
    assert entries_of(wide) == ['{host: "a.example", ports: [443], methods: [GET]}']
    assert (
        wide.hosts()[0].warning == "its paths are too many, or cannot be written as patterns: none are named"
    )


@pytest.mark.parametrize("others", [[], [f"/v1/items/{number}" for number in range(9)]], ids=["few", "many"])
def test_one_path_that_cannot_be_written_leaves_the_beginning_of_all(others: list[str]) -> None:
    learner = learn(
        *(http("a.example", path, url=f"https://a.example{path}") for path in ["/v1/%E2%82%AC", *others])
    )
    assert entries_of(learner) == ['{host: "a.example", ports: [443], methods: [GET], paths: ["/v1/**"]}']


def test_paths_that_no_pattern_means_are_not_written() -> None:
    for path in ("/a*b", "/a b", "/a%20b", "/é", '/a"b', "/a\\b", "/%2e%2e/x", "/a//b", "/a%2fb", "relative"):
        (host,) = learn(http("a.example", path)).hosts()
        assert host.paths is None, path
        assert host.warning is not None
        entries_of(learn(http("a.example", path)))


def test_hostile_hosts_and_methods_are_left_out() -> None:
    evil = 'a.example", private: true} #'
    learner = learn(
        http(evil),
        http("a.example", method="GET]"),
        http("a.example", port="80"),
        tcp("x y"),
        connect("tcp:"),
    )
    assert learner.hosts() == []
    assert len(learner.left_out) == 5


def test_connections_that_were_passed_on_are_said_to_be() -> None:
    (host,) = learn(tcp("db.example"), http("db.example")).hosts()
    assert host.entry() == '{host: "db.example", ports: [443]}'
    assert "anything may be sent there" in (host.warning or "")


def test_private_addresses_and_local_services() -> None:
    learner = learn(http("10.0.0.5"), connect("tcp:127.0.0.1:5432"), connect("unix:/run/x.sock"))
    assert entries_of(learner) == [
        '{host: "10.0.0.5", ports: [443], methods: [GET], paths: ["/"], private: true}'
    ]
    assert dict(learner.addresses) == {"tcp:127.0.0.1:5432": 1, "unix:/run/x.sock": 1}


def test_odd_events_are_no_error() -> None:
    odd: list[Any] = [None, 3, "\x1b", [], {"a": 1}]
    for entry in session():
        for name in [key for key in entry if key not in ("type", "run")]:
            for value in odd:
                learn({**entry, name: value})
