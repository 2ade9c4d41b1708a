from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.cli.rules.written import RULES


def test_without_and_with_remarks(capsys: pytest.CaptureFixture[str], workspace: Path, home: Path) -> None:
    (workspace / "rules.yaml").write_text(RULES)
    answer = invoke(capsys, "rules", "lint", "rules.yaml")
    assert (answer.code, answer.out) == (0, "2 rules compile, 0 remarks\n")
    again = "  - {id: again, on: http, when: 'http.host == \"other.example\"', action: block}\n"
    (workspace / "rules.yaml").write_text(RULES + again)
    answer = invoke(capsys, "rules", "lint", "rules.yaml")
    assert answer.code == 1
    assert answer.out.startswith("rules.yaml:16: rule again: conflicts with later")
    told = json.loads(invoke(capsys, "rules", "lint", "rules.yaml", "--json").out)
    assert (told["ok"], told["rules"]) == (False, 3)
    (remark,) = told["remarks"]
    assert (remark["file"], remark["line"], remark["rule"]) == (str(workspace / "rules.yaml"), 16, "again")
    assert remark["what"].startswith("conflicts with later")
    assert remark["next_step"]


def test_detections_that_can_never_fire(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path
) -> None:
    (workspace / "sigma").mkdir()
    (workspace / "sigma/a.yml").write_text(
        "title: T\nid: t\nlogsource: {product: linux, category: process_creation}\n"
        "detection: {a: {User: root}, condition: a}\n"
    )
    answer = invoke(capsys, "rules", "lint", "sigma")
    assert answer.code == 1
    assert "sigma/a.yml:1: rule t: can never fire: events never have User" in answer.out
