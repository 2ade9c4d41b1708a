"""The outer half of a tool, from many threads and loops at its first call."""

from __future__ import annotations

import asyncio
import threading
from types import ModuleType

import capsule
from capsule.sdk.pool import POOL


def test_first_calls_from_many_threads_make_one_sandbox(tools: ModuleType) -> None:
    barrier = threading.Barrier(10)
    results: list[int] = []

    def first(n: int) -> None:
        barrier.wait()
        results.append(tools.add(n))

    threads = [threading.Thread(target=first, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [n + 2 for n in range(10)]
    assert len(POOL._sessions) == 1


def test_two_loops_in_two_threads(tools: ModuleType) -> None:
    results: list[str] = []

    def loop(text: str) -> None:
        results.append(asyncio.run(tools.later(text)))

    threads = [threading.Thread(target=loop, args=(text,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["aa", "bb"]


def test_the_last_result_belongs_to_its_task(tools: ModuleType) -> None:
    async def one(text: str) -> str:
        await tools.later(text)
        await asyncio.sleep(0.01)
        result = capsule.last_result()
        assert result is not None
        return str(result.value)

    async def both() -> list[str]:
        return list(await asyncio.gather(one("a"), one("b")))

    assert asyncio.run(both()) == ["aa", "bb"]
