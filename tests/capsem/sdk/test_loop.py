from __future__ import annotations

import asyncio

import pytest

from capsem.sdk.loop import Loop


def test_results_and_errors_come_back() -> None:
    loop = Loop()

    async def double(value: int) -> int:
        await asyncio.sleep(0)
        if value < 0:
            raise ValueError(value)
        return value * 2

    assert loop.run(double(21)) == 42
    with pytest.raises(ValueError, match="-1"):
        loop.run(double(-1))


def test_its_own_thread_would_wait_for_itself_and_is_refused() -> None:
    loop = Loop()

    async def inner() -> int:
        return 1

    async def outer() -> int:
        return loop.run(inner())

    with pytest.raises(RuntimeError, match="callback"):
        loop.run(outer())
