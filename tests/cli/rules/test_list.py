from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.cli.rules.written import RULES


def test_in_the_order_in_which_they_decide(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path
) -> None:
    (workspace / "rules.yaml").write_text(RULES)
    lines = invoke(capsys, "rules", "list", "rules.yaml").out.splitlines()
    assert [line.split()[-2] for line in lines if "(rules.yaml:" in line] == ["no-gists", "later"]
    value = json.loads(invoke(capsys, "rules", "list", "rules.yaml", "agents", "--json").out)
    assert [rule["id"] for rule in value["rules"]] == ["no-gists", "later"]
    assert "agents-git-hook-written" in [one["id"] for one in value["detections"]]
    assert "agents-mass-deletion" in [one["id"] for one in value["correlations"]]


def test_of_the_policy_in_force(capsys: pytest.CaptureFixture[str], workspace: Path, home: Path) -> None:
    (workspace / "rules.yaml").write_text(RULES)
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nrules: [./rules.yaml]\ndetect: [agents]\n"
    )
    out = invoke(capsys, "rules", "list").out
    assert "no-gists" in out
    assert "agents-piped-to-shell" in out
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [workspace]\n")
    assert invoke(capsys, "rules", "list").out.startswith("no rules: add")


def test_what_does_not_compile(capsys: pytest.CaptureFixture[str], workspace: Path, home: Path) -> None:
    (workspace / "rules.yaml").write_text(RULES.replace("http.host", "http.hots"))
    answer = invoke(capsys, "rules", "list", "rules.yaml")
    assert answer.code == 2
    assert "capsule: rules.yaml:5:16: rule no-gists: there is no field http.hots" in answer.err
