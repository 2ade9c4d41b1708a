"""A sandbox of one's own: programs and functions in it, its end, and what it tells."""

from __future__ import annotations

import asyncio
import os.path
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

import capsule

pytestmark = pytest.mark.usefixtures("tools")


def test_programs_and_functions_share_one_run(
    tools: ModuleType, workspace: Path, capsule_binary: Path
) -> None:
    with capsule.Sandbox() as box:
        result = box.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert (result.code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
        assert box.call(os.path.basename, "/a/b").value == "b"
        assert box.call(tools.plain, 7).value == 21
        assert box.call(tools.add, 1, b=1).value == 2
    ended = box.close()
    assert ended is not None
    assert ended.exit.cause == "exited"
    assert ended.log is not None
    checked = subprocess.run([capsule_binary, "verify", ended.log.path], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_keeps_its_private_directories_between_calls() -> None:
    with capsule.Sandbox() as box:
        box.run(["sh", "-c", "echo kept > /tmp/state"], check=True)
        assert box.run(["cat", "/tmp/state"]).text == "kept\n"
    assert not Path("/tmp/state").exists()


def test_input_environment_directory_and_check(workspace: Path) -> None:
    (workspace / "below").mkdir()
    with capsule.Sandbox() as box:
        result = box.run(["sh", "-c", "cat; echo $A; pwd"], input="in\n", env={"A": "v"}, cwd="below")
        assert result.text.splitlines() == ["in", "v", str((workspace / "below").resolve())]
        with pytest.raises(capsule.CommandFailed, match="exit 5"):
            box.run(["sh", "-c", "exit 5"], check=True)
        with pytest.raises(FileNotFoundError):
            box.run(["no-such-program-here"])
        with pytest.raises(capsule.ResultError, match="more than 1000 bytes"):
            box.run(["yes"], output_limit=1000)
        killed = box.run(["sh", "-c", "kill -11 $$"])
        assert (killed.code, killed.exit.cause, killed.exit.signal) == (139, "signalled", 11)


def test_a_timeout_is_a_result_and_the_sandbox_goes_on() -> None:
    with capsule.Sandbox(timeout=0.5) as box:
        slow = box.run(["sleep", "1000"])
        assert (slow.code, slow.exit.cause) == (124, "timeout")
        assert box.run(["true"]).ok


def test_a_closed_sandbox_is_refused() -> None:
    box = capsule.Sandbox()
    with box:
        box.run(["true"])
    with pytest.raises(capsule.SandboxError, match="closed"):
        box.run(["true"])
    assert box.close() is box.close()


def test_a_sandbox_that_cannot_start_says_why(workspace: Path) -> None:
    with (
        pytest.raises(capsule.CapsuleError, match="nothing-like-this"),
        capsule.Sandbox(policy="nothing-like-this.yaml"),
    ):
        pass


def test_coroutines(tools: ModuleType) -> None:
    async def work() -> None:
        async with capsule.Sandbox() as box:
            results = await asyncio.gather(*(box.arun(["sh", "-c", f"exit {n}"]) for n in range(4)))
            assert [result.code for result in results] == [0, 1, 2, 3]
            assert (await box.acall(tools.later, "x")).value == "xx"
            assert (await box.acall(tools.plain, 2)).value == 6

    asyncio.run(work())


def test_two_sandboxes_do_not_meet() -> None:
    with capsule.Sandbox() as one, capsule.Sandbox() as other:
        one.run(["sh", "-c", "echo x > /tmp/mine"], check=True)
        assert other.run(["cat", "/tmp/mine"]).code == 1
