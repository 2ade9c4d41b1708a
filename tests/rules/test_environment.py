"""What conditions see of an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from capsule.rules import environment
from capsule.rules.environment import (
    RulesUnavailableError,
    activation,
    checking,
    in_network,
    known_fields,
    parsed_network,
    running,
    sections_of,
)
from capsule.rules.expression import ConditionError, Outcome, compile_condition


def asked(source: str, event: Mapping[str, Any]) -> Outcome:
    return compile_condition(source, ("http",)).ask(activation(event, sections_of(["http"])), event)


def test_nothing_hides_behind_a_nul() -> None:
    event = {"http": {"path": "/a\0/secret", "headers": {"a\0b": "c\0d"}, "secret": ["e\0f"]}}
    assert asked('http.path.contains("secret")', event) is True
    assert asked('http.path == "/a"', event) is False
    assert asked('http.path == "/a\\ufffd/secret" && "a\\ufffdb" in http.headers', event) is True
    assert asked('http.secret[0].endsWith("f") && size(http.secret[0]) == 3', event) is True
    with pytest.raises(ConditionError, match="NUL"):
        compile_condition('http.path == "\\u0000"', ("http",))


def test_large_numbers_of_a_body_do_not_make_every_rule_fail() -> None:
    body = {"json": {"a": 10**30, "b": -(10**400), "c": [2**63, 2**63 - 1]}}
    event = {"http": {"host": "a", "body": body}}
    assert asked('http.host == "a" && http.body.json.a > 1.0e29 && http.body.json.c[1] > 3', event) is True


@pytest.mark.parametrize("value", ["\ud800", object()])
def test_what_is_no_json_is_no_event(value: object) -> None:
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        activation({"http": {"host": value}}, ["http"])


def test_networks() -> None:
    assert in_network("127.0.0.1", "127.0.0.0/8")
    assert not in_network("example.org", "0.0.0.0/0")
    with pytest.raises(ValueError, match="nope"):
        in_network("127.0.0.1", "nope")


def test_sections_and_fields_of_several_types() -> None:
    assert sections_of(["http", "http_response", "dns"]) == {"event", "program", "decision", "http", "dns"}
    both = known_fields(("http", "dns"), decided=False)
    assert {"http.host", "dns.name", "program.name", "run"} <= set(both)
    assert "http.status" not in both


def test_environments_are_made_once() -> None:
    assert running() is running()
    assert checking(("dns",), False) is checking(("dns",), False)
    assert parsed_network("10.0.0.0/8").prefixlen == 8


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    environment.binding.cache_clear()
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(RulesUnavailableError, match=r"capsule\[egress\]"):
        environment.binding()
    environment.binding.cache_clear()
