"""The tests that rules bring along."""

from __future__ import annotations

import json
from typing import Any

from capsule.rules.engine import compile_rules
from capsule.rules.rule import parse_rules
from capsule.rules.testing import ExampleResult, check_examples


def results(when: str, match: list[Any], miss: list[Any]) -> list[ExampleResult]:
    row = {"id": "a", "on": "http", "when": when, "action": "block", "tests": {"match": match, "miss": miss}}
    text = json.dumps({"version": 1, "rules": [row]}, indent=1)
    return check_examples(compile_rules([parse_rules(text, "r.yaml")]).rules)


def test_what_a_rule_does_not_read_may_be_left_out() -> None:
    found = results('http.host == "a"', [{"http": {"host": "a"}}], [{"http": {"host": "b"}}])
    assert [result.passed for result in found] == [True, True]
    assert str(found[0]).endswith("rule a: match: passed")


def test_what_comes_out_otherwise_is_said() -> None:
    found = results('http.host == "a"', [{"http": {"host": "b"}}], [{"http": {"host": "a"}}])
    assert [(result.passed, result.why) for result in found] == [
        (False, "the rule does not hold"),
        (False, "the rule holds"),
    ]
    assert str(found[0]).startswith("r.yaml:11:6: ")


def test_an_event_without_what_the_rule_reads_is_no_test() -> None:
    found = results('http.sni == "a"', [{"http": {"host": "b"}}], [])
    assert found[0].why == "the rule reads http.sni; add it to the event"


def test_a_condition_that_fails_is_said() -> None:
    assert "divide by zero" in results("1 / http.port == 1", [{"http": {"port": 0}}], [])[0].why
