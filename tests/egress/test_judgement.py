"""Grants, then rules, then an ask or the default: without a socket in sight."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from capsule.egress.frames import Egress
from capsule.egress.judgement import ASK_TIMEOUT_MS, Judge
from capsule.rules.engine import broken, compile_rules
from capsule.rules.rule import parse_rules
from tests.egress.supervisor import host, plan


def judge(*hosts: dict[str, Any], rules: str = "", **fields: Any) -> Judge:
    files = [parse_rules("version: 1\nrules:\n" + rules, "rules.yaml")] if rules else []
    return Judge(msgspec.convert(plan(*hosts, **fields), Egress), compile_rules(files))


def request(
    name: str = "a.example", method: str = "GET", path: str = "/x", port: int = 443
) -> dict[str, Any]:
    http = {"host": name, "port": port, "method": method, "path": path, "scheme": "https", "headers": {}}
    return {"event": {"id": "e", "type": "http", "time": "2026-01-01T00:00:00Z"}, "run": "r", "http": http}


def rule(action: str, when: str = '"true" == "true"', priority: int = 500, extra: str = "") -> str:
    named = f"id: r-{action}-{priority}, on: http, when: '{when}', action: {action}"
    return f"  - {{{named}, priority: {priority}{extra}}}\n"


def test_an_entry_lets_through_and_says_which() -> None:
    judged = judge(host("a.example")).request(request(), "request")
    assert judged.verdict.entry() == {
        "action": "allow", "by": "grant", "rule": {"id": "network.hosts a.example", "file": "capsule.yaml", "line": 3},
    }  # fmt: skip
    assert judged.entry is not None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request("b.example"), "no host entry lists b.example"),
        (request(port=8443), "no entry of a.example has port 8443"),
        (request(method="POST"), "no entry of a.example has the method POST"),
        (request(path="/y"), "no entry of a.example has the path /y"),
        (request(path="/x/%2e%2e/y"), "the path has an encoded"),
    ],
)
def test_nothing_else_goes(asked: dict[str, Any], reason: str) -> None:
    found = judge(host("a.example", methods=["GET"], paths=["/x", "/x/**"])).request(asked, "request").verdict
    assert (found.action, found.by) == ("block", "grant")
    assert found.reason.startswith(reason)
    assert found.allow


def test_rules_take_away_but_never_add() -> None:
    allowing = judge(host("a.example"), rules=rule("allow"))
    assert allowing.request(request(), "request").verdict.by == "rule"
    assert not allowing.request(request("b.example"), "request").verdict.allowed
    blocking = judge(host("a.example"), rules=rule("block")).request(request(), "request")
    assert (blocking.verdict.action, blocking.verdict.by) == ("block", "rule")
    restored = judge(host("a.example"), rules=rule("block") + rule("allow", priority=100))
    assert restored.request(request(), "request").verdict.allowed


def test_who_is_asked_and_for_how_long() -> None:
    asked = judge(host("a.example"), rules=rule("ask", extra=", ask_timeout: 7s")).request(
        request(), "request"
    )
    assert asked.asks == 7000
    assert not asked.verdict.allowed, "until somebody says yes"
    unlisted = judge(host("a.example"), unlisted="ask")
    found = unlisted.request(request("b.example"), "request")
    assert (found.asks, found.verdict.by) == (ASK_TIMEOUT_MS, "default")
    assert unlisted.request(request(method="GET", port=8443), "request").asks is None, "the host is listed"
    both = judge(host("a.example"), unlisted="ask", rules=rule("block"))
    assert both.request(request("b.example"), "request").asks is None


def test_a_rule_that_reads_the_body_waits() -> None:
    found = judge(host("a.example"), rules=rule("block", 'http.body.text.contains("x")'))
    assert found.request(request(), "request").pending
    event = request()
    event["http"]["body"] = {"size": 1, "text": "y", "truncated": False}
    assert found.request(event, "body").verdict.allowed


def test_names() -> None:
    found = judge(host("a.example"), host("*.w.example"))
    assert found.name("a.example", "A", "udp").allowed
    assert found.name("b.w.example", "A", "udp").allowed
    for name in ("w.example", "b.example", "aa.example"):
        assert found.name(name, "A", "udp").entry()["action"] == "block"
    assert judge(unlisted="ask").name("b.example", "A", "udp").allowed


def test_connections_and_who_looks_into_them() -> None:
    found = judge(
        host("a.example", 443, inspect="auto"),
        host("n.example", 443, inspect="never"),
        host("m.example", 443, inspect="auto", methods=["GET"]),
    )
    assert [found.inspects(name, 443) for name in ("a.example", "n.example", "m.example")] == [
        False,
        False,
        True,
    ]
    assert not found.connection("a.example", 80)[0].allowed
    event = {
        "event": {"id": "", "type": "tcp", "time": ""},
        "run": "r",
        "tcp": {"host": "a.example", "port": 443},
    }
    assert found.passing(event).verdict.allowed
    block = "  - {id: x, on: tcp, when: 'tcp.port == 443', action: block}\n"
    assert not judge(host("a.example", 443, inspect="never"), rules=block).passing(event).verdict.allowed


def test_broken_rules_deny_everything() -> None:
    found = judge(host("a.example"))
    found.rules = broken("rules.yaml:3:5: no")
    verdict = found.request(request(), "request").verdict
    assert not verdict.allowed
    assert "rules.yaml:3:5: no" in verdict.reason
    assert not found.name("a.example", "A", "udp").allowed
