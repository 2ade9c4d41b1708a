"""The worker keeps its promise: what a call leaves behind is gone, and the next call finds it as it was."""

from __future__ import annotations

import asyncio
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
