from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

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


class Counting:
    """A stream that takes note of its end, which takes a while."""

    def __init__(self) -> None:
        self.over = threading.Event()

    async def to(self, last: int, *, error: Exception | None = None) -> AsyncIterator[int | None]:
        try:
            for number in range(last):
                yield number or None
            if error is not None:
                raise error
            await asyncio.sleep(60 if last == 1 else 0)
        finally:
            await asyncio.sleep(0.05)
            self.over.set()


class Plain:
    """An async iterator that cannot be closed."""

    left = 1

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return 7


def test_a_stream_comes_one_at_a_time_whatever_it_brings_and_with_its_error() -> None:
    loop = Loop()
    assert list(loop.each(Counting().to(3))) == [None, 1, 2]
    broken = loop.each(Counting().to(1, error=ValueError("broken")))
    assert next(broken) is None
    with pytest.raises(ValueError, match="broken"):
        next(broken)
    assert list(loop.each(Plain())) == [7]


def test_a_stream_is_closed_when_its_loop_is_left() -> None:
    loop, stream = Loop(), Counting()
    for one in loop.each(stream.to(3)):
        assert not stream.over.is_set()
        if one == 1:
            break
    assert stream.over.is_set()


def test_a_stream_that_is_waited_for_is_closed_by_who_interrupts_the_wait() -> None:
    loop, stream = Loop(), Counting()
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    interrupting = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    coming = loop.each(stream.to(1))
    assert next(coming) is None
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        next(coming)
    assert stream.over.is_set()


def test_a_stream_that_is_left_to_the_end_of_the_program_does_not_keep_it() -> None:
    program = (
        "from capsem.sdk.loop import LOOP\n"
        "async def endless():\n"
        "    while True:\n"
        "        yield 1\n"
        "stream = LOOP.each(endless())\n"
        "print(next(stream))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert (ended.stdout, ended.stderr) == ("1\n", "")
