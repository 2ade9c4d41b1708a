"""Speaking to monitors. A monitor is a process of its own that outlives this one.

Refuses nothing of its own, and passes on what a monitor says went wrong as the error it was.

    status = await status_of(record.id)      # None: no monitor is there
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from capsem.errors import CapsemError, ConflictError, MachineError
from capsem.host import hold, places
from capsem.host import memory as memories
from capsem.host.operation import answer, ask, begin
from capsem.wire.monitor import Become, Copied, Info, Status, Stop, Suspend
from capsem.wire.monitor import Copy as Asked

# A start takes up to three boots of a minute each where everything is emulated; a monitor that is to end, this.
SETTLE_SECONDS = 60.0


async def status_of(machine: str) -> Status | None:
    """What a machine's monitor says of it; None when there is none."""
    path = places.monitor_socket(machine)
    if not path.exists():
        return None
    try:
        async with asyncio.timeout(5):
            return await answer(path, Info(), Status, "say how it is")
    except (CapsemError, TimeoutError):
        return None


def at_work(machine: str) -> bool:
    """Whether a machine's monitor is there and has not said how the machine ended; it may not listen yet."""
    directory = places.session(machine)
    return hold.holder(directory) is not None and not places.end(directory).exists()


async def settled(machine: str, *, force: bool) -> None:
    """Returns when a monitor that is at work listens, or has gone.

    Args:
        machine: whose.
        force: end it if it does neither within a second.

    Raises:
        ConflictError: it does neither in time.
    """
    until = time.monotonic() + (1.0 if force else SETTLE_SECONDS)
    while at_work(machine) and await status_of(machine) is None:
        if time.monotonic() > until:
            if not force:
                raise ConflictError(f"{machine} is being started", next_step="wait for it, see capsem list")
            hold.kill(places.session(machine))
            await released(machine)
            return
        await asyncio.sleep(0.02)


async def released(machine: str) -> None:
    """Returns when no process holds a machine's directory.

    Raises:
        MachineError: one that ought to end does not.
    """
    until = time.monotonic() + SETTLE_SECONDS
    while (pid := hold.holder(places.session(machine))) is not None:
        if time.monotonic() > until:
            raise MachineError(f"the machine's monitor {pid} does not end", next_step=f"kill {pid}")
        await asyncio.sleep(0.005)


async def become(machine: str, *, leased: bool) -> None:
    """Have a machine that was made ahead be what its directory tells of; returns when commands may be run in it.

    Args:
        machine: which.
        leased: whether it ends with the client that holds its lease.

    Raises:
        CapsemError: what its monitor says; it has ended then.
    """
    await ask(places.monitor_socket(machine), Become(leased=leased))


async def suspend(machine: str) -> None:
    """Keep a machine's memory and devices, and end it; returns when its monitor has gone.

    Raises:
        CapsemError: what the monitor says: it runs on, or has crashed.
    """
    await ask(places.monitor_socket(machine), Suspend())
    await gone(machine)


@dataclass(frozen=True, slots=True)
class Copy:
    """What was copied of a machine.

    Attributes:
        told: what its monitor says of it.
        memory: a sealed descriptor of its memory, where that was asked for; else -1.
        state: the same of its devices.
    """

    told: Copied
    memory: int = -1
    state: int = -1


@contextlib.asynccontextmanager
async def copy(machine: str, name: str, *, memory: bool) -> AsyncIterator[Copy]:
    """Copy a running machine's disk to `copies/NAME` in its directory, and its memory; it runs on.

    Raises:
        CapsemError: what the monitor says.
    """
    operation = await begin(places.monitor_socket(machine), Asked(name, memory=memory))
    with contextlib.ExitStack() as stack:
        try:
            said = await anext(aiter(operation), None)
            if not isinstance(said, Copied) or memory != (said.memory is not None):
                raise MachineError(
                    "the monitor did not say what it copied", next_step="are both sides of one version?"
                )
            taken = [_sealed(said.pid, number) for number in (said.memory, said.state) if number is not None]
            for descriptor in taken:
                stack.callback(os.close, descriptor)
            yield Copy(said, *taken)
        finally:
            await operation.close()


def _sealed(pid: int | None, number: int) -> int:
    """A descriptor of another process of this user, which nobody can change any more.

    Raises:
        MachineError: it is not there, or can be changed.
    """
    try:
        found = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        step = "try again"
        if isinstance(error, PermissionError):
            step = "its monitor may do more than this service, so that it cannot be looked into: capsem restart it"
        raise MachineError(f"the copy is not there: {error.strerror}", next_step=step) from error
    try:
        if not memories.sealed(found):
            raise MachineError("the copy can be changed", next_step="are both sides of one version?")
    except OSError as error:
        os.close(found)
        raise MachineError(f"the copy is no memory: {error.strerror}", next_step="report this") from error
    except BaseException:
        os.close(found)
        raise
    return found


async def stop(machine: str, *, force: bool) -> None:
    """End a machine; returns when its monitor has gone. One that does not answer is ended where `force` is given.

    Raises:
        TimeoutError: it has not gone in time.
    """
    path = places.monitor_socket(machine)
    if not path.exists():
        return
    try:
        async with asyncio.timeout(SETTLE_SECONDS if force else None):
            with contextlib.suppress(MachineError):
                await ask(path, Stop(force=force))
            await gone(machine)
    except TimeoutError:
        if not force:
            raise
        hold.kill(places.session(machine))
        await released(machine)


async def gone(machine: str) -> None:
    """Returns when a machine's monitor, which is about to end, has gone.

    Raises:
        TimeoutError: it has not within 20 s.
    """
    path = places.monitor_socket(machine)
    async with asyncio.timeout(20):
        while path.exists() and await status_of(machine) is not None:
            await asyncio.sleep(0.01)
