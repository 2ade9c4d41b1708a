"""Conditions: what compiles, what does not and where, and the three values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from capsule.rules.environment import activation, sections_of
from capsule.rules.expression import (
    Condition,
    ConditionError,
    Failed,
    Missing,
    Outcome,
    compile_any,
    compile_condition,
    conjuncts,
    present,
)


def compiled(source: str, *on: str) -> Condition:
    return compile_condition(source, on or ("http",))


def asked(source: str, event: Mapping[str, Any], *on: str) -> Outcome:
    types = on or ("http",)
    return compiled(source, *types).ask(activation(event, sections_of(types)), event)


@pytest.mark.parametrize(
    ("source", "at", "what"),
    [
        ('http.hots == "a"', "hots", "no field http.hots"),
        ("http.host == 5", "==", "== does not take string and int"),
        ('has(http.headers["x"])', '["x"]', "has() asks for a field"),
        ('dns.name == "x"', "name", "has no dns"),
        ("http == http", "http", "http as a whole"),
        ('http[http.host] == "x"', "http", "http as a whole"),
        ("http.status == 3", "status", "not known yet"),
        ("http.body.nope == 2", "nope", "no field http.body.nope"),
        ('http.host.replace("a", "b") == "x"', '("a"', "replace() may not be used"),
        ('http.secret.join(",") == "x"', '(",")', "join() may not be used"),
        ('http.path.matches("(?=a)")', '"(?=a)"', "invalid"),
        ("http.path.matches(http.host)", "(http.host)", "not a constant"),
        ('http.address.inNetwork("10.0.0/8")', '"10', "is not a network"),
        ('http.secret.exists(http, http == "x")', "(http,", "hides the event's http"),
        ("http.host", "http.host", "of type string, not bool"),
        ("http.port > 1.5", "> 1.5", "> does not take int and double"),
        ("http.host ==", "", "Syntax error"),
        ("nope == 1", "nope", "undeclared reference to 'nope'"),
        ("(" * 40 + "true" + ")" * 40, "(", "recursion limit"),
        ('http.host == "' + "x" * 5000 + '"', "", "longer than 4096 bytes"),
        ('decision.action == "block"', "action", "no decision"),
    ],
)
def test_what_does_not_compile(source: str, at: str, what: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compiled(source)
    offset, said, _ = caught.value.faults[0]
    assert what in said
    if at and "undeclared" not in what:
        assert source[offset:].startswith(at)


def test_the_nearest_field_is_named() -> None:
    with pytest.raises(ConditionError) as caught:
        compiled('http.hots == "a"')
    assert caught.value.faults[0][2] == "did you mean http.host?"


def test_all_faults_are_reported_in_order() -> None:
    with pytest.raises(ConditionError) as caught:
        compiled('http.aaaa == "x" && http.bbbb == "y"')
    assert [fault[0] for fault in caught.value.faults] == [5, 25]


EVENT = {
    "http": {"host": "a", "port": 443, "address": "::ffff:10.1.1.1", "headers": {"x.y": "1"}, "secret": ["s"]}
}


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ('http.host == "a"', True),
        ('http.host == "b"', False),
        ('http.sni == "a"', Missing(("http.sni",))),
        ('http.sni == "a" && http.host == "b"', False),
        ('http.host == "b" && http.sni == "a"', False),
        ('http.sni == "a" && http.host == "a"', Missing(("http.sni",))),
        ('http.sni == "a" || http.host == "a"', True),
        ('http.sni == "a" || http.host == "b"', Missing(("http.sni",))),
        ('!(http.sni == "a")', Missing(("http.sni",))),
        ("has(http.sni)", False),
        ('has(http.sni) && http.sni == "a"', False),
        ('http.?sni.orValue("a") == "a"', True),
        ('http.headers["x.y"] == "1"', True),
        ('http.headers["x.z"] == "1"', Missing(("http.headers.x.z",))),
        ("has(http.headers.`x.y`)", True),
        ('"x.z" in http.headers', False),
        ('http.headers[?"x.z"].hasValue()', False),
        ('program.name == "curl"', Missing(("program.name",))),
        ('run == "r"', Missing(("run",))),
        ("http.body.size > 3", Missing(("http.body.size",))),
        ('http.secret[4] == "x"', Failed("UNKNOWN: Index error: index=4 size=1")),
        ("http.port / 0 == 1", Failed("INVALID_ARGUMENT: divide by zero")),
        ('http.address.inNetwork("10.0.0.0/8")', True),
        ('http.address.inNetwork("fd00::/8")', False),
        ('http.host.inNetwork("10.0.0.0/8")', False),
        ('"has(http.sni)" == http.host', False),
        ("has(\n  http.host\n) && http.port == 443 // has(", True),
    ],
)
def test_three_values(source: str, outcome: Outcome) -> None:
    assert asked(source, EVENT) == outcome


def test_wrong_types_from_outside_fail() -> None:
    assert isinstance(asked("http.port > 3", {"http": {"port": "443"}}), Failed)
    assert isinstance(asked("http.port > 3", {"http": {"port": 2**80}}), Failed)


def test_a_comprehension_over_too_much_fails_instead_of_going_on() -> None:
    event = {"http": {"secret": ["x"] * 300, "headers": {}}}
    source = "http.secret.all(a, http.secret.all(b, http.secret.all(c, a == b)))"
    outcome = asked(source, event)
    assert isinstance(outcome, Failed)
    assert "budget" in outcome.why


def test_a_disjunction_is_false_only_when_all_are() -> None:
    either = compile_any(['http.host == "a"', 'http.sni == "x" // a comment'])
    on = sections_of(["http"])
    assert either.eval(activation({"http": {"host": "b", "sni": "y"}}, on)).value() is False
    assert either.eval(activation({"http": {"host": "b"}}, on)).value() is not False


def test_presence_and_conjuncts() -> None:
    assert present({"http": {"headers": {"a.b": "c"}}}, "http.headers.a.b")
    assert not present({"http": {"headers": {}}}, "http.headers.a.b")
    assert not present({"http": "x"}, "http.headers")
    assert (
        len(conjuncts(compiled("http.port == 1 && (http.port == 2 && http.port == 3) && true").tree.expr))
        == 4
    )


def test_detection_sees_what_was_decided_and_fractions_stay_fractions() -> None:
    compile_condition('decision.action == "block" && http.status == 403', ("http",), decided=True)
    assert asked("dns.entropy > 4.0", {"dns": {"entropy": math.pi + 1}}, "dns") is True
