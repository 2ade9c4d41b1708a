"""Loaded by Python itself (`site`) in a process under measurement: how late the turns of its event loop are, and why.

Only with `TURNS` in the environment, the file that gets one JSON object a line. A beat is asked for every `BEAT`
seconds, and told with what the loop's thread did since the one before: computed, waited for a processor (the kernel's
`run_delay`, sched-stats.rst), or neither. So is a callback that took longer than `LATE`, with its name, and a run of
the collector. Every `COUNT` seconds: blocks of memory that Python holds. Refuses nothing.

    PYTHONPATH=benchmarks/turns TURNS=/tmp/turns python -m capsule.egress
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from asyncio import events
from collections.abc import Callable
from typing import Any

BEAT = 0.02
LATE = 0.1
COUNT = 5.0

Tell = Callable[[dict[str, Any]], None]


class Thread:
    """What the calling thread has had: seconds of computing and of waiting for a processor."""

    _known = threading.local()

    @classmethod
    def here(cls) -> Thread:
        """Of this thread, opened once."""
        found: Thread | None = getattr(cls._known, "one", None)
        if found is None:
            found = cls._known.one = cls()
        return found

    def __init__(self) -> None:
        self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    def now(self) -> tuple[float, float, float]:
        """The time, computed, waited."""
        computed, waited, _ = os.pread(self._file, 80, 0).split()
        return time.monotonic(), int(computed) / 1e9, int(waited) / 1e9


def beat(loop: asyncio.AbstractEventLoop, tell: Tell) -> None:
    """Beats in a loop, from within it, until it ends."""
    thread = Thread.here()
    last, counted = thread.now(), 0.0

    def came() -> None:
        nonlocal last, counted
        now = thread.now()
        took, computed, waited = (new - old for new, old in zip(now, last, strict=True))
        tell({"what": "beat", "at": last[0], "took": took, "computed": computed, "waited": waited})
        if now[0] - counted > COUNT:
            counted = now[0]
            tell({"what": "blocks", "at": now[0], "blocks": sys.getallocatedblocks()})
        last = thread.now()
        loop.call_later(BEAT, came)

    loop.call_later(BEAT, came)


def _collector(tell: Tell) -> None:
    began = (0.0, 0.0, 0.0)

    def ran(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = Thread.here().now()
            return
        took, computed, waited = (new - old for new, old in zip(Thread.here().now(), began, strict=True))
        if took > LATE:
            what = f"collector, generation {info['generation']}, {info['collected']} collected"
            tell({"what": what, "at": began[0], "took": took, "computed": computed, "waited": waited})

    gc.callbacks.append(ran)


def watch(tell: Tell) -> None:
    """Watches every loop of this process, from its first callback."""
    original = events.Handle._run
    seen: set[int] = set()

    def run(self: events.Handle) -> None:
        thread = Thread.here()
        if id(self._loop) not in seen:  # type: ignore[attr-defined]
            seen.add(id(self._loop))  # type: ignore[attr-defined]
            beat(self._loop, tell)  # type: ignore[attr-defined]
        callback, before = self._callback, thread.now()  # type: ignore[attr-defined]
        original(self)
        took, computed, waited = (new - old for new, old in zip(thread.now(), before, strict=True))
        if took > LATE:
            task = getattr(callback, "__self__", None)
            what = f"task {task.get_coro()!r}" if isinstance(task, asyncio.Task) else repr(self)
            tell({"what": what[:300], "at": before[0], "took": took, "computed": computed, "waited": waited})

    events.Handle._run = run  # type: ignore[method-assign]
    _collector(tell)


def _written(path: str) -> Tell:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def tell(told: dict[str, Any]) -> None:
        os.write(file, json.dumps(told).encode() + b"\n")

    return tell


if "TURNS" in os.environ:
    watch(_written(os.environ.pop("TURNS")))
