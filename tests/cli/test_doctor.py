"""`capsule doctor` on the command line: a table that fits, JSON, an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from capsule.cli.doctor import command, lines
from capsule.doctor.verdicts import Guarantee, State
from tests.attack.launchers import launcher


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("CAPSULE_BINARY", launcher(tmp_path))
    monkeypatch.chdir(tmp_path)
    return CliRunner()


def test_every_guarantee_has_a_line_and_none_is_too_wide(runner: CliRunner) -> None:
    answer = runner.invoke(command, [], standalone_mode=False)
    assert answer.exception is None
    assert "whole-tree kill" in answer.output
    # A launcher that answers nonsense is not a run: the doctor says so and exits 1.
    assert "UNAVAILABLE a run under the policy" in answer.output
    assert answer.return_value == 1
    assert max(map(len, answer.output.splitlines())) <= 100


def test_json(runner: CliRunner) -> None:
    document = json.loads(runner.invoke(command, ["--json"], standalone_mode=False).output)
    assert document["doctor"] == 1
    assert {"name", "state", "why", "fix"} == set(document["guarantees"][0])


def test_the_fix_stands_below_and_colour_is_asked_for() -> None:
    guarantee = Guarantee("namespaces", State.UNAVAILABLE, "refused " * 12, "sudo sysctl -w x=1")
    text = lines(guarantee, width=80, colour=False)
    assert text[-1].strip() == "fix: sudo sysctl -w x=1"
    assert max(map(len, text)) <= 80
    assert "\x1b[1;31m" in lines(guarantee, width=80, colour=True)[0]
