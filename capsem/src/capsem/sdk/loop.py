"""One event loop in a thread of its own, for callers that have none.

Refuses to be called from its own thread, which would wait for itself for ever.

    LOOP.run(coroutine)
    for one in LOOP.each(async_iterator): ...
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """Started when first used; ends with the program."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="capsem-sdk", daemon=True).start()
            return self._loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine.

        Raises:
            RuntimeError: called from a callback, which runs on this loop.
        """
        loop = self._running()
        if threading.current_thread().name == "capsem-sdk":
            work.close()
            raise RuntimeError("a callback of a sandbox must not call the sandbox: it runs on its loop")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, coming: AsyncIterator[T]) -> Iterator[T]:
        """What an async iterator brings, one at a time; it is closed when the caller's loop is left.

        Raises:
            RuntimeError: iterated in a callback, which runs on this loop.
        """
        turn = asyncio.Lock()

        async def following() -> tuple[T, ...]:
            async with turn:
                try:
                    return (await anext(coming),)
                except StopAsyncIteration:
                    return ()

        async def close(generator: AsyncGenerator[T]) -> None:
            async with turn:  # a step that was interrupted ends first
                await generator.aclose()

        try:
            while one := self.run(following()):
                yield from one
        finally:
            # At the program's end the loop turns no more, and everything is let go.
            if isinstance(coming, AsyncGenerator) and not sys.is_finalizing():
                self.run(close(coming))


LOOP = Loop()
