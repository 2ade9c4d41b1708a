"""Templates: a machine that was booted once, kept as sealed memory, and handed to every machine of the same plan.

Refuses one that was made for another plan: its directory is named by the plan's key. Booting one is a monitor's work.

    template = await Templates().get(plan, image)
    template.memory, template.state          # descriptors, sealed
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from capsem.errors import MachineError
from capsem.host import keeping, memory, places
from capsem.host.rooms import room
from capsem.vm.plan import Accelerator, Board, MachinePlan


@dataclass(frozen=True, slots=True)
class Template:
    """A booted machine's memory and state.

    Attributes:
        directory: where it is kept.
        memory: a sealed descriptor of the guest's memory.
        state: a sealed descriptor of the devices' state.
        disk: the disk as it was then, to be copied; None without one.
    """

    directory: Path
    memory: int
    state: int
    disk: Path | None


class Templates:
    """The templates of this service, each loaded once."""

    def __init__(self, boot: Callable[[MachinePlan, Path], Awaitable[None]]) -> None:
        self._boot = boot
        self._loaded: dict[str, Template] = {}
        self._forgotten: list[Template] = []
        # Plans that did not boot on the small board and do on the other; found out again by the next service.
        self._too_small: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)

    async def get(self, plan: MachinePlan) -> Template:
        """The template of a plan; booted when there is none yet.

        Raises:
            MachineError: it does not boot.
        """
        async with self._locks[plan.key]:
            found = self._loaded.get(plan.key)
            if found is None:
                directory = places.templates() / plan.key
                if not (directory / "complete").exists():
                    await self._make(plan, directory)
                found = await asyncio.to_thread(_load, directory)
                self._loaded[plan.key] = found
            # When it was used last decides when it is cleaned.
            with contextlib.suppress(OSError):
                os.utime(found.directory / "complete")
            return found

    async def get_on_some_board(self, plan: MachinePlan) -> tuple[MachinePlan, Template]:
        """The template of a plan, or of the same on the larger board when the small one does not boot here.

        Returns:
            The plan that it is of, and the template.

        Raises:
            MachineError: it boots on neither.
        """
        large = replace(plan, board=Board.Q35)
        if plan.key not in self._too_small:
            try:
                return plan, await self.get(plan)
            except MachineError as error:
                # Under an accelerator the board is not what is in the way.
                if plan.board is Board.Q35 or plan.accelerator is not Accelerator.TCG:
                    raise
                try:
                    found = await self.get(large)
                except MachineError:
                    raise error from None
                self._too_small.add(plan.key)
                return large, found
        return large, await self.get(large)

    async def _make(self, plan: MachinePlan, directory: Path) -> None:
        if directory.exists():
            await asyncio.to_thread(shutil.rmtree, directory)
        # A name of its own: a monitor of a service that was killed may still be at work in another.
        with room(directory.parent, f"{directory.name}.", keeping.MAKING) as fresh:
            await self._boot(plan, fresh)
            (fresh / "complete").touch(mode=0o600)
            fresh.rename(directory)

    @contextlib.asynccontextmanager
    async def left_alone(self, key: str) -> AsyncIterator[None]:
        """A template that nobody is given until the block ends."""
        async with self._locks[key]:
            yield

    def forget(self, key: str) -> None:
        """Load it again when it is asked for, if it is there; `left_alone` is held meanwhile."""
        found = self._loaded.pop(key, None)
        if found is not None:
            # A machine may be about to start from it: its descriptors stay until the next `release`.
            self._forgotten.append(found)

    def release(self) -> None:
        """Let go of what was forgotten before."""
        for template in self._forgotten:
            os.close(template.memory)
            os.close(template.state)
        self._forgotten.clear()

    def close(self) -> None:
        """Let go of all."""
        self.release()
        for template in self._loaded.values():
            os.close(template.memory)
            os.close(template.state)
        self._loaded.clear()


def _load(directory: Path) -> Template:
    disk = directory / "disk"
    return Template(
        directory,
        memory.from_file(directory / "memory", "memory"),
        memory.from_file(directory / "state", "state"),
        disk if disk.exists() else None,
    )
