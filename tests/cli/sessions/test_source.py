from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from capsule.cli.sessions.source import since
from capsule.errors import UsageError
from capsule.sessions.database import FILE, Writer, directory
from tests.cli.invoke import invoke
from tests.native.log import Log
from tests.sessions.recorded import exec_, session


def total(capsys: pytest.CaptureFixture[str], *words: str) -> int:
    return int(json.loads(invoke(capsys, "sessions", "list", "--json", *words).out)["total"])


def test_beside_a_writer_what_is_there_is_read(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    assert total(capsys) == 1
    log.record(session("r-2"))
    with Writer.open(directory()):
        answer = invoke(capsys, "sessions", "list", "--json")
        assert json.loads(answer.out)["total"] == 1
        assert "another capsule is taking logs in" in answer.err
    assert total(capsys) == 2


def test_a_damaged_database_is_made_again(
    log: Log, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert total(capsys) == 1
    monkeypatch.chdir(tmp_path)  # the log is known, and not the default here
    path = directory() / FILE
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    answer = invoke(capsys, "sessions", "list", "--json", "--log", str(log.path))
    assert json.loads(answer.out)["total"] == 1
    assert "made again from the logs" in answer.err
    assert invoke(capsys, "sessions", "rebuild", "--check").code == 0


def test_a_known_log_that_is_no_log_any_more_is_said_and_the_others_are_read(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Log(log.binary, log.path.with_name("other.log"))
    other.record(session("r-2"))
    assert total(capsys, "--log", str(other.path)) == 1
    other.path.write_text("gone\n")
    answer = invoke(capsys, "sessions", "list", "--json")
    assert json.loads(answer.out)["total"] == 2
    assert "is not a capsule log" in answer.err


def test_names(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.record([exec_("r-22aa"), exec_("r-22bb"), exec_("r-22")])
    assert json.loads(invoke(capsys, "sessions", "show", "22a", "--json").out)["session"]["run"] == "r-22aa"
    assert json.loads(invoke(capsys, "sessions", "show", "r-22", "--json").out)["session"]["run"] == "r-22"
    answer = invoke(capsys, "sessions", "show", "r-2")
    assert answer.code == 2
    assert "is more than one session: " in answer.err


def test_names_are_completed(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.record([exec_("r-22aa"), exec_("r-22bb"), exec_("r-3")])
    words = {
        "COMP_WORDS": "capsule sessions show r-22",
        "COMP_CWORD": "3",
        "_CAPSULE_COMPLETE": "bash_complete",
    }
    call = [sys.executable, "-m", "capsule.cli"]

    def offered() -> set[str]:
        done = subprocess.run(call, env={**os.environ, **words}, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert offered() == set(), "nothing is indexed, and completing indexes nothing"
    assert total(capsys) == 4
    assert offered() == {"plain,r-22aa", "plain,r-22bb"}


def test_the_same_run_in_two_logs_is_told_apart_by_the_log(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Log(log.binary, log.path.with_name("other.log"))
    other.record([exec_("r-1")])
    answer = invoke(capsys, "sessions", "show", "r-1", "--log", str(other.path))
    assert answer.code == 0
    invoke(capsys, "sessions", "list")
    assert "(other.log)" in invoke(capsys, "sessions", "show", "r-1").err
    found = json.loads(invoke(capsys, "sessions", "show", "r-1", "--json", "--log", str(other.path)).out)
    assert found["events"] == 1


def test_times() -> None:
    assert since(None) == ""
    assert since("2026-11-25") == "2026-11-25T00:00:00"
    assert since("2026-11-25T19:00:00+02:00") == "2026-11-25T17:00:00"
    assert since("1d") < since("1h") < since("1s")
    with pytest.raises(UsageError):
        since("soon")
