"""Remarks on rules that compile."""

from __future__ import annotations

import json
from typing import Any

import pytest

from capsule.rules.engine import compile_rules
from capsule.rules.lint import lint
from capsule.rules.rule import parse_rules


def remarks(*rows: dict[str, Any]) -> list[str]:
    complete = [
        {"id": f"r{number}", "on": "http", "action": "block", **row} for number, row in enumerate(rows)
    ]
    text = json.dumps({"version": 1, "rules": complete})
    return [str(remark) for remark in lint(compile_rules([parse_rules(text, "r.yaml")]).rules)]


A, B = 'http.host == "a"', 'http.method == "PUT"'


def test_a_rule_that_an_earlier_one_covers() -> None:
    found = remarks({"when": A, "priority": 10}, {"when": f"{B} && {A}", "priority": 20, "action": "ask"})
    assert len(found) == 1
    assert (
        "rule r1: never decides: r0 (r.yaml:1) holds whenever it does, comes first and says block" in found[0]
    )


def test_an_earlier_allow_covers_unless_something_is_missing() -> None:
    found = remarks(
        {"when": A, "priority": 10, "action": "allow"}, {"when": '"a" == http.host', "priority": 20}
    )
    assert "never decides, unless something is missing" in found[0]
    found = remarks({"when": "true", "priority": 10, "action": "allow"}, {"when": A, "priority": 20})
    assert "never decides: " in found[0]


def test_what_is_not_covered() -> None:
    assert remarks({"when": f"{A} && {B}", "priority": 10}, {"when": A, "priority": 20}) == []
    assert (
        remarks(
            {"when": A, "priority": 10}, {"when": A, "priority": 20, "on": ["http", "dns"], "action": "allow"}
        )
        == []
    )
    rewrite = {"action": "rewrite", "rewrite": [{"remove_header": "a"}]}
    assert remarks({"when": A, "priority": 10, **rewrite}, {"when": A, "priority": 20}) == []


@pytest.mark.parametrize("refusing", ["ask", "block"])
def test_a_conflict_by_equal_conditions(refusing: str) -> None:
    found = remarks({"when": A, "action": "allow"}, {"when": A, "action": refusing})
    assert "conflicts with r0 (r.yaml:1), which has the same condition and the same priority" in found[0]


def test_a_conflict_by_a_test_of_either() -> None:
    tests = {"tests": {"match": [{"http": {"host": "a", "method": "PUT"}}]}}
    for first, second in (({**tests}, {}), ({}, {**tests})):
        found = remarks({"when": A, "action": "allow", **first}, {"when": B, **second})
        assert "holds too for the event of r.yaml:1" in found[0]
    assert remarks({"when": A, "action": "allow"}, {"when": B}) == []


def test_a_header_that_may_be_missing() -> None:
    assert (
        'if that is not meant, begin with "x" in http.headers &&'
        in remarks({"when": 'http.headers["x"] == "1"'})[0]
    )
    assert remarks({"when": 'http.headers["x"] == "1"', "action": "allow"}) == []
    assert remarks({"when": 'has(http.headers.x) && http.headers["x"] == "1"'}) == []


def test_a_section_that_some_types_do_not_have() -> None:
    found = remarks({"when": 'http.host == "a"', "on": ["http", "dns"]})
    assert "holds for every dns event, which has no http; begin with has(http.host) &&" in found[0]
    assert remarks({"when": 'has(http.host) && http.host == "a"', "on": ["http", "dns"]}) == []
