from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.cli.rules.written import RULES


def test_tests_that_pass_and_one_that_does_not(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path
) -> None:
    (workspace / "rules.yaml").write_text(RULES)
    answer = invoke(capsys, "rules", "test", "rules.yaml")
    assert (answer.code, answer.out) == (0, "2 of 2 tests pass\n")
    (workspace / "rules.yaml").write_text(RULES.replace("method: GET", "method: POST"))
    answer = invoke(capsys, "rules", "test", "rules.yaml")
    assert answer.code == 1
    assert answer.out == "rules.yaml:11:14: rule no-gists: miss: the rule holds\n1 of 2 tests pass\n"


def test_in_json(capsys: pytest.CaptureFixture[str], workspace: Path, home: Path) -> None:
    (workspace / "rules.yaml").write_text(RULES.replace("method: GET", "method: POST"))
    answer = invoke(capsys, "rules", "test", "rules.yaml", "agents", "--json")
    told = json.loads(answer.out)
    assert (answer.code, told["ok"], len(told["tests"])) == (1, False, 46)
    (failed,) = [one for one in told["tests"] if not one["passed"]]
    assert failed == {
        "file": str(workspace / "rules.yaml"), "line": 11, "column": 14, "rule": "no-gists", "expected": "miss",
        "passed": False, "why": "the rule holds",
    }  # fmt: skip


def test_no_tests(capsys: pytest.CaptureFixture[str], workspace: Path, home: Path) -> None:
    (workspace / "rules.yaml").write_text(RULES.split("    tests:")[0])
    answer = invoke(capsys, "rules", "test", "rules.yaml")
    assert (answer.code, answer.out[:8]) == (0, "no tests")


def test_a_pack_is_asked_about_its_examples(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path
) -> None:
    answer = invoke(capsys, "rules", "test", "agents")
    assert (answer.code, answer.out) == (0, "44 of 44 tests pass\n")


def test_rules_of_sigma_say_why_they_have_none(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path
) -> None:
    (workspace / "one.yml").write_text(
        "title: t\nid: t-1\nlogsource: {category: process_creation, product: linux}\n"
        "detection: {a: {Image|endswith: /x}, condition: a}\n"
    )
    answer = invoke(capsys, "rules", "test", "one.yml")
    assert answer.code == 0
    assert "Sigma rules compile" in answer.out
    assert "capsule hunt" in answer.out
