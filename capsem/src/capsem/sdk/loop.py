"""One event loop in a thread of its own, for callers that have none.

Refuses to be called from its own thread, which would wait for itself for ever.

    LOOP.run(coroutine)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
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


LOOP = Loop()
