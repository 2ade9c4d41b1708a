"""Monitors' ends as the kernel tells of them (pidfd_open(2)): a temporary machine goes then, not when somebody asks.

Refuses nothing: of a monitor that has gone already it says so at once.

    watching = Watching(ended)               # async def ended(machine: str) -> None
    watching.begin("m-1a2b3c4d")
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable

from capsem.host import hold, places
from capsem.host.ending import ended


class Watching:
    """All that are watched.

    Args:
        ended: told which machine's monitor has gone.
    """

    def __init__(self, ended: Callable[[str], Awaitable[None]]) -> None:
        self._ended = ended
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, machine: str) -> None:
        """Watch the monitor that this machine has now."""
        if (before := self._tasks.get(machine)) is not None:
            before.cancel()
        task = self._tasks[machine] = asyncio.create_task(self._until_gone(machine))
        task.add_done_callback(lambda done: self._over(machine, done))

    def _over(self, machine: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(machine) is task:
            del self._tasks[machine]
        if not task.cancelled() and (error := task.exception()) is not None:
            # It is found when somebody asks for machines.
            asyncio.get_running_loop().call_exception_handler({"message": f"{machine}: {error}"})

    async def _until_gone(self, machine: str) -> None:
        pid = hold.holder(places.session(machine))
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                try:
                    await ended(process)
                finally:
                    os.close(process)
        await self._ended(machine)
