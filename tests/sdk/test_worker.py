"""The worker keeps its promise: what a call leaves behind is gone, and the next call finds it as it was."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

import capsule


def quiet(mark: Path) -> bool:
    """Whether the process that keeps writing to `mark` has stopped."""
    first = mark.read_text() if mark.exists() else None
    time.sleep(0.3)
    return first == (mark.read_text() if mark.exists() else None)


def test_the_attack_works_while_its_call_runs(tools: ModuleType, workspace: Path) -> None:
    mark = workspace / "mark"
    with pytest.raises(capsule.CallTimeoutError):
        tools.outlive(str(mark))
    assert mark.exists()


def test_a_timeout_kills_what_the_call_started_and_keeps_the_sandbox(
    tools: ModuleType, workspace: Path
) -> None:
    tools.add(1)
    from capsule.sdk.pool import POOL

    before = POOL.session(POOL.key(None, "outlive"))
    started = time.monotonic()
    with pytest.raises(capsule.CallTimeoutError, match="did not finish"):
        tools.outlive(str(workspace / "mark"))
    assert time.monotonic() - started < 3
    assert quiet(workspace / "mark")
    assert tools.add(1) == 3
    assert POOL.session(POOL.key(None, "add")) is before


def test_what_a_call_leaves_running_is_killed_after_its_answer(tools: ModuleType, workspace: Path) -> None:
    assert tools.leave_behind(str(workspace / "mark")) == "left"
    time.sleep(0.2)
    assert quiet(workspace / "mark")


def test_a_cancelled_call_is_killed(tools: ModuleType, workspace: Path) -> None:
    async def cancelled() -> None:
        await tools.later("warm")
        task = asyncio.create_task(tools.later_forever())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert tools.add(1) == 3


def test_a_call_has_three_streams_its_connection_and_nothing_else(tools: ModuleType) -> None:
    descriptors = tools.open_descriptors()
    # 0, 1, 2, the connection, and the one that lists the directory.
    assert len(descriptors) == 5, descriptors


class TestWallTime:
    @pytest.fixture(autouse=True)
    def policy(self, workspace: Path) -> None:
        (workspace / "capsule.yaml").write_text(
            "version: 1\nname: slow\nextends: [workspace]\ntools:\n  sleep:\n    limits: {wall_time: 1s}\n"
        )

    def test_a_policy_s_wall_time_is_of_each_call_and_not_of_the_sandbox_that_waits(
        self, tools: ModuleType
    ) -> None:
        tools.sleep(0)
        from capsule.sdk.pool import POOL

        before = POOL.session(POOL.key(None, "sleep"))
        time.sleep(1.5)
        assert tools.sleep(0.01) == 0.01
        began = time.monotonic()
        with pytest.raises(capsule.CallTimeoutError, match=r"within 1 s.*wall_time in the policy"):
            tools.sleep(30)
        assert time.monotonic() - began < 10
        assert tools.sleep(0.01) == 0.01
        assert POOL.session(POOL.key(None, "sleep")) is before

    def test_it_bounds_the_import_of_a_module_too(
        self, tools: ModuleType, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Outside it is there at once; inside, where that file is not, its import has no end.
        outside = workspace.parent / "outside"
        outside.touch()
        (workspace / "endless_import.py").write_text(
            "import os, time, capsule\n"
            f"while not os.path.exists({str(outside)!r}): time.sleep(0.1)\n"
            "@capsule.tool\ndef sleep() -> None: pass\n"
        )
        monkeypatch.setitem(sys.modules, "endless_import", importlib.import_module("endless_import"))
        began = time.monotonic()
        with pytest.raises(capsule.CapsuleError, match="not imported within the policy's wall_time"):
            sys.modules["endless_import"].sleep()
        assert time.monotonic() - began < 10
        assert tools.sleep(0.01) == 0.01

    def test_where_both_say_something_the_less_counts(self, workspace: Path) -> None:
        policy = workspace / "capsule.yaml"
        policy.write_text("version: 1\nname: slow\nextends: [workspace]\nlimits: {wall_time: 2s}\n")
        with capsule.Sandbox(policy=policy) as box:
            for timeout in (0.5, 30):
                began = time.monotonic()
                ended = box.run(["sleep", "30"], timeout=timeout)
                assert (ended.code, ended.exit.cause) == (124, "timeout")
                assert time.monotonic() - began < 10
            time.sleep(2)
            assert box.run(["true"]).ok
