"""What a machine's guest tells of itself, between the channel that hears it and whoever takes it.

A guest may tell without end. Refuses to keep more than so much: then its port is not read until what waits was taken,
and the guest's agent counts what it could not send.

    reports = Reports(pause=transport.pause_reading, resume=transport.resume_reading)
    reports.put(guest.Lost("changes", 3))
    await reports.taken()                          # [Lost(what='changes', count=3)]
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from capsem.wire.guest import Report

MOST = 1024
"""Reports that wait before the guest's port is not read any more. What was read with the last of them waits, too."""


class Reports:
    """Those that wait.

    Args:
        pause: stop reading the guest's port.
        resume: go on.
    """

    def __init__(self, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause, self._resume = pause, resume
        self._waiting: list[Report] = []
        self._came = asyncio.Event()
        self._paused = False

    def put(self, report: Report) -> None:
        """One more."""
        self._waiting.append(report)
        self._came.set()
        if len(self._waiting) >= MOST and not self._paused:
            self._paused = True
            self._pause()

    async def some(self) -> None:
        """Returns when one waits."""
        while not self._waiting:
            self._came.clear()
            await self._came.wait()

    async def taken(self) -> list[Report]:
        """All that wait, in order; returns when there is one."""
        await self.some()
        return self.rest()

    def rest(self) -> list[Report]:
        """All that wait; perhaps none."""
        taken, self._waiting = self._waiting, []
        if self._paused:
            self._paused = False
            self._resume()
        return taken
