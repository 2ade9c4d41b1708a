"""A program with its output in memory: fed, bounded, its end told apart."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from capsule.sdk.program import OutputLimitError, run


def test_output_code_and_signal() -> None:
    ended = run(["sh", "-c", "echo out; echo err >&2; exit 3"], env=None, cwd=None, data=b"", limit=1000)
    assert ended == {"code": 3, "signal": None, "stdout": b"out\n", "stderr": b"err\n"}
    killed = run(["sh", "-c", "kill -9 $$"], env=None, cwd=None, data=b"", limit=1000)
    assert (killed["code"], killed["signal"]) == (137, 9)


def test_input_larger_than_a_pipe_crosses_both_ways() -> None:
    data = b"line\n" * 100_000
    assert run(["cat"], env=None, cwd=None, data=data, limit=1 << 20)["stdout"] == data


def test_a_program_that_does_not_read_is_no_error() -> None:
    assert run(["true"], env=None, cwd=None, data=b"x" * 200_000, limit=10)["code"] == 0


def test_output_beyond_the_limit_ends_it() -> None:
    with pytest.raises(OutputLimitError, match="more than 5000 bytes"):
        run(["sh", "-c", "yes"], env=None, cwd=None, data=b"", limit=5000)


def test_environment_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setenv("CAPSULE_TEST", "before")
    shown = "import os; print(os.environ['CAPSULE_TEST'], os.getcwd())"
    ended = run(
        [sys.executable, "-c", shown], env={"CAPSULE_TEST": "v"}, cwd=str(tmp_path), data=b"", limit=4096
    )
    assert ended["stdout"].decode().split() == ["v", os.path.realpath(tmp_path)]


def test_no_such_program() -> None:
    with pytest.raises(FileNotFoundError):
        run(["/nonexistent/program"], env=None, cwd=None, data=b"", limit=10)
