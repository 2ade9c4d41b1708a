"""Room on the disk for what is being made: the limit on CAPSEM_HOME, with what others are making counted in.

Refuses what might not fit beside what was let begin and is not done, so that many at once stay within it, too.

    room = Room()
    async with room.taken("a fork of 'build'", 120_000_000): ...
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from capsem.host import limits, places
from capsem.host.usage import taken
from capsem.vm.plan import MachinePlan


class Room:
    """What this service lets others take."""

    def __init__(self) -> None:
        self._promised = 0
        self._measuring = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def taken(self, what: str, size: int) -> AsyncIterator[None]:
        """Promise room until it is made.

        Args:
            what: for the error.
            size: the most bytes that it may take.

        Raises:
            ConflictError: there is not that much within the limit.
        """
        async with self._measuring:
            if limits.limited():
                await asyncio.to_thread(limits.check, what, size, also=self._promised)
            self._promised += size
        try:
            yield
        finally:
            self._promised -= size


def of_new(plan: MachinePlan) -> int:
    """The most bytes that a new machine takes when it starts: its disk, and where there is none yet its template."""
    template = places.templates() / plan.key
    disk = template / "disk" if (template / "complete").exists() else Path(plan.image.disk or "/nonexistent")
    size = taken([disk])[0]
    return size if (template / "complete").exists() else 2 * size + (plan.memory_mib << 20)


def of_copy(machine: str) -> int:
    """The most bytes that a copy of a machine's disk and workspace takes."""
    directory = places.session(machine)
    return taken([directory / "disk", directory / "workspace"])[0]
