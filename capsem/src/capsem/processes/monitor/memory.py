"""A machine's memory as its monitor has it: the file it started from, and how what it is now is got out of it.

What starts from a template or beside its parent has that file privately, so that many share what they do not write;
what booted or was resumed writes to a file of its own. Refuses nothing: that the machine stands still while its memory
is taken is its caller's to see to.

    memory = Memory.of_template(3, 4)
    room = await memory.room()                   # while the machine runs
    state = await memory.taken(qemu, room)       # while it stands still: room then has its memory
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from capsem.host import kept, ram
from capsem.host import memory as memories
from capsem.host.qemu import Qemu
from capsem.vm.plan import MachinePlan
from capsem.vm.state import put_together


class Memory:
    """One machine's.

    Attributes:
        file: what QEMU maps.
        state: of the devices, to be loaded; None: the machine boots.
        shared: whether what the guest writes goes to `file`.
    """

    def __init__(
        self, file: int, state: int | None, *, shared: bool, owned: bool, source: int | None = None
    ) -> None:
        self.file = file
        self.state = state
        self.shared = shared
        self._owned = owned
        self._source = source

    @classmethod
    def empty(cls, plan: MachinePlan) -> Memory:
        """For a machine that boots."""
        return cls(memories.blank("memory", plan.memory_mib << 20), None, shared=True, owned=True)

    @classmethod
    def of_template(cls, file: int, state: int) -> Memory:
        """For one that starts where another stood; both descriptors are sealed and stay the caller's."""
        return cls(file, state, shared=False, owned=False)

    @classmethod
    def kept_in(cls, place: Path, plan: MachinePlan) -> Memory:
        """For one that was suspended.

        Raises:
            MachineError: the file is not what was kept of such a machine.
        """
        source = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            state, file = kept.begin(source, plan.memory_mib << 20)
        except BaseException:
            os.close(source)
            raise
        return cls(file, state, shared=True, owned=True, source=source)

    async def filled(self) -> None:
        """Returns when the file has what it starts with; QEMU may be started meanwhile, but not load its state.

        Raises:
            MachineError: what was kept is not there any more.
        """
        if self._source is not None:
            source, self._source = self._source, None
            try:
                await asyncio.to_thread(kept.fill, source, self.file)
            finally:
                os.close(source)

    async def room(self) -> int:
        """New memory of the machine's size, with what the guest has not written since its start."""
        room = memories.blank("memory", os.fstat(self.file).st_size)
        if not self.shared:
            await asyncio.to_thread(memories.copy_written, self.file, room)
        return room

    async def taken(self, qemu: Qemu, room: int) -> bytes:
        """Put the guest's memory into `room`; returns the devices' state, with which a machine goes on from there.

        Raises:
            MachineError: QEMU does not say it, or it cannot be read.
        """
        if not self.shared:
            devices = await qemu.devices()
            await asyncio.to_thread(ram.copy_written, qemu.pid, self.file, room)
            assert self.state is not None
            return put_together(whole(self.state), devices)
        state = memories.blank("state")
        try:
            await qemu.save(state)
            if room != self.file:
                await asyncio.to_thread(memories.copy_written, self.file, room)
            return whole(state)
        finally:
            os.close(state)

    def close(self) -> None:
        """Let go of what is its own."""
        if self._source is not None:
            os.close(self._source)
            self._source = None
        if self._owned:
            self._owned = False
            os.close(self.file)
            if self.state is not None:
                os.close(self.state)


def whole(descriptor: int) -> bytes:
    """All bytes of a file in memory."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
