"""`capsule attack` on the command line: choosing, answering, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from capsule.cli.attack import Progress, command
from tests.attack.launchers import launcher


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("CAPSULE_BINARY", launcher(tmp_path))
    monkeypatch.chdir(tmp_path)
    return CliRunner()


def test_the_list_runs_nothing(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_BINARY", "/absent")
    answer = runner.invoke(command, ["--list", "--only", "fs"], standalone_mode=False)
    assert answer.return_value == 0
    assert "fs.symlink-write" in answer.output
    assert "CVE-2026-39861" in answer.output
    assert max(map(len, answer.output.splitlines())) <= 80


def test_an_open_launcher_fails_and_says_how(runner: CliRunner) -> None:
    answer = runner.invoke(
        command, ["--only", "fs.symlink-write", "--policy", "workspace"], standalone_mode=False
    )
    assert answer.return_value == 1
    assert "FAIL fs.symlink-write" in answer.output
    assert "outside/canary" in answer.output
    assert "1 attacks: 0 held, 1 FAILED" in answer.output


def test_json_is_one_document(runner: CliRunner) -> None:
    answer = runner.invoke(command, ["--only", "fs.symlink-write", "--json"], standalone_mode=False)
    document = json.loads(answer.output)
    assert answer.return_value == 1
    assert document["attack"] == 1
    assert document["policy"] == "workspace"
    assert document["results"][0]["verdict"] == "FAIL"


def test_an_unknown_id_is_a_wrong_command_line(runner: CliRunner) -> None:
    answer = runner.invoke(command, ["--only", "nothing"])
    assert answer.exit_code == 2
    assert "families are" in answer.output


def test_progress_is_a_bar_with_an_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(4, shown=True)
    shown.at(0, "fs.w")
    assert "0/4  fs.w" in capsys.readouterr().err
    shown.at(2, "fs.x")
    shown.clear()
    told = capsys.readouterr().err
    assert re.search(r"2/4  about \d+ s left  fs.x", told)
    assert told.endswith("\r\x1b[K")


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(40, shown=True, bar=False)
    for done in range(40):
        shown.at(done, "fs.x")
    shown.clear()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9
    assert re.fullmatch(r"capsule: 4 of 40 attacks done, about \d+ s left", lines[0])


def test_json_has_no_progress(runner: CliRunner, capsys: pytest.CaptureFixture[str]) -> None:
    Progress(4, shown=False).at(1, "x")
    Progress(4, shown=False, bar=False).at(4, "x")
    assert capsys.readouterr().err == ""
    few = ["--only", "fs.symlink-write", "--only", "fs.read-aliases"]
    assert runner.invoke(command, [*few, "--json"], standalone_mode=False).stderr == ""
    assert "1 of 2 attacks done" in runner.invoke(command, few, standalone_mode=False).stderr
