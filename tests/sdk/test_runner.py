"""Commands: results, limits, evidence, and what is an error."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import capsule


@pytest.fixture(autouse=True)
def _in_workspace(workspace: Path, capsule_binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_BINARY", str(capsule_binary))


def test_a_command_with_output_code_and_evidence() -> None:
    result = capsule.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.code, result.ok, result.exit.cause) == (3, False, "exited")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert result.enforced.tier in {"full", "confined"}
    assert result.log is not None
    assert Path(result.log.path).name == "capsule.log"
    assert str(result).startswith("sh -c 'echo out; echo err >&2; exit 3': exit 3 in ")


def test_a_string_is_split_and_no_shell_is_run() -> None:
    assert capsule.run("echo 'a b' $HOME").text == "a b $HOME\n"
    with pytest.raises(ValueError, match="empty"):
        capsule.run("")


def test_check_raises_with_the_result() -> None:
    with pytest.raises(capsule.CommandFailed, match="exit 7") as caught:
        capsule.run(["sh", "-c", "exit 7"], check=True)
    assert caught.value.result.code == 7  # type: ignore[attr-defined]
    assert capsule.run(["true"], check=True).ok


def test_input_and_environment_and_directory(workspace: Path) -> None:
    (workspace / "below").mkdir()
    script = "cat; echo $COLOUR; pwd"
    result = capsule.run(["sh", "-c", script], input="given\n", env={"COLOUR": "red"}, cwd="below")
    assert result.text.splitlines() == ["given", "red", os.path.realpath(workspace / "below")]


def test_large_input_and_output_do_not_wait_for_each_other() -> None:
    data = b"0123456789abcde\n" * 20_000
    assert capsule.run(["cat"], input=data).stdout == data


def test_a_timeout_is_a_result_whose_cause_says_so(workspace: Path) -> None:
    started = time.monotonic()
    result = capsule.run(["sh", "-c", "(sleep 1000 &) ; sleep 1000"], timeout=0.5)
    assert (result.code, result.exit.cause) == (124, "timeout")
    assert time.monotonic() - started < 10


def test_a_command_that_does_not_exist_is_a_result_too() -> None:
    result = capsule.run(["no-such-program-here"])
    assert (result.code, result.exit.cause) == (127, "not_found")


def test_a_refusal_is_seen_and_says_what_would_allow_it(workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nfilesystem:\n  deny: [./secret]\n"
    )
    (workspace / "secret").write_text("s3cret")
    result = capsule.run(["cat", "secret"])
    assert result.code == 1
    assert b"s3cret" not in result.stdout
    assert [(d.operation, Path(d.target).name) for d in result.denials] == [("read", "secret")]
    assert result.denials[0].rule is not None
    assert result.denials[0].rule.line == 4


def test_a_policy_that_is_wrong_runs_nothing(workspace: Path) -> None:
    (workspace / "bad.yaml").write_text("version: 1\nfilesytem: {}\n")
    with pytest.raises(capsule.SandboxError, match="filesytem"):
        capsule.run(["touch", "ran"], policy="bad.yaml")
    assert not (workspace / "ran").exists()


def test_uncaptured_output_goes_where_the_programs_goes(
    workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = capsule.run(["echo", "straight"], capture=False)
    assert result.stdout == b""
    assert capfd.readouterr().out == "straight\n"


def test_the_log_of_a_run_verifies(capsule_binary: Path) -> None:
    result = capsule.run(["true"])
    assert result.log is not None
    verified = subprocess.run(
        [capsule_binary, "verify", result.log.path], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    lines = [json.loads(line) for line in Path(result.log.path).read_text().splitlines()]
    kinds = [line["type"] for line in lines if line.get("run") == result.run]
    assert kinds[0] == "run.started"
    assert kinds[-1] == "run.ended"


def test_coroutines_run_beside_each_other() -> None:
    async def both() -> list[capsule.RunResult]:
        return await asyncio.gather(*(capsule.arun(["sh", "-c", f"exit {n}"]) for n in range(5)))

    assert [result.code for result in asyncio.run(both())] == [0, 1, 2, 3, 4]


def test_cancelling_kills_the_command(workspace: Path) -> None:
    async def cancelled() -> None:
        script = "while true; do date +%N > mark; sleep 0.02; done"
        task = asyncio.create_task(capsule.arun(["sh", "-c", script]))
        while not (workspace / "mark").exists():
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    before = (workspace / "mark").read_text()
    time.sleep(0.3)
    assert (workspace / "mark").read_text() == before


def test_a_killed_program_takes_its_command_with_it(workspace: Path) -> None:
    script = "while true; do date +%N > mark; sleep 0.02; done"
    with subprocess.Popen(
        [sys.executable, "-c", f"import capsule; capsule.run(['sh', '-c', {script!r}])"]
    ) as program:
        deadline = time.monotonic() + 20
        while not (workspace / "mark").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (workspace / "mark").exists()
        program.kill()
    time.sleep(1)
    before = (workspace / "mark").read_text()
    time.sleep(0.3)
    assert (workspace / "mark").read_text() == before


@pytest.mark.parametrize("wrong", [0, -1.5])
def test_a_timeout_must_be_positive(wrong: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        capsule.run(["true"], timeout=wrong)


def test_nothing_is_left_open() -> None:
    capsule.run(["true"])
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        capsule.run(["true"])
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_a_preset_is_named_as_on_the_command_line(workspace: Path) -> None:
    assert capsule.run(["true"], policy="strict").exit.code == 0
    with pytest.raises(capsule.SandboxError, match="nope"):
        capsule.run(["true"], policy="nope", check=True)
