"""A monitor's life: the machine of a session from its start to its end, or one template made.

Refuses to be silent: what goes wrong before it is ready is told to the service, in its own words.

    code = live(Begin(session="/…/sessions/m-1a2b3c4d"), ready, memory=None, state=None)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from capsem.errors import CapsemError, MachineError, UsageError
from capsem.host import hold, places
from capsem.host.operation import told
from capsem.host.plans import read_plan
from capsem.processes.monitor.door import Door
from capsem.processes.monitor.machine import Machine
from capsem.processes.monitor.template import make
from capsem.vm.record import Record, decode
from capsem.vm.spec import MachineSpec
from capsem.wire.nursery import Begin
from capsule.errors import CapsuleError, PolicyError


async def watch_over(
    directory: Path, ready: int, memory: int | None, state: int | None, *, leased: bool = False
) -> None:
    """Start the machine of a session, say so, and stay until it has ended."""
    place = directory / "session.json"
    record = decode(place.read_bytes(), str(place))
    machine = Machine(record, read_plan(directory), directory, memory=memory, state=state)
    await _while_asked_for(machine.start(), ready, past=lambda: machine.went_on, undo=machine.abandon)
    async with Door(machine, places.monitor_socket(record.id), leased=leased):
        say(ready, b"ready\n")
        await machine.ended.wait()


async def wait_to_become(directory: Path, ready: int, memory: int, state: int) -> None:
    """Start a machine that is nobody's, say so, and stay until it was somebody's and has ended, or the service has."""
    plan = read_plan(directory)
    spec = MachineSpec(cpus=plan.cpus, memory_mib=plan.memory_mib)
    record = Record(id=directory.name, spec=spec, digest=plan.image.digest, created="")
    machine = Machine(record, plan, directory, memory=memory, state=state)
    try:
        await machine.prepare()
        async with Door(machine, places.monitor_socket(record.id)):
            # The service may have ended meanwhile.
            with contextlib.suppress(BrokenPipeError):
                os.write(ready, b"ready\n")
                await _until_decided(machine, ready)
            os.close(ready)
            if not machine.unclaimed:
                await machine.ended.wait()
    finally:
        if machine.unclaimed:
            from capsem.host.remembered import remove_with_logs

            await machine.leave()
            await asyncio.to_thread(remove_with_logs, directory)


async def _until_decided(machine: Machine, ready: int) -> None:
    """Returns when it is somebody's, or will not be."""
    waiting = [asyncio.create_task(one) for one in (_unread(ready), machine.died(), machine.became.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)


async def _unread(ready: int) -> None:
    """Returns when the service has ended: a pipe that is only written to says when nobody reads it any more."""
    gone, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(ready, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(ready)


async def _while_asked_for(
    work: Coroutine[Any, Any, None],
    ready: int,
    *,
    past: Callable[[], bool],
    undo: Callable[[str], Awaitable[None]],
) -> None:
    """Work that is undone when the service ends before it is done: nobody was told of it, and nobody asks for it.

    Args:
        work: what to do.
        ready: where the service waits.
        past: whether it has come so far that something would be lost; then it is done to its end.
        undo: with why, after the work was broken off.

    Raises:
        MachineError: it was undone.
    """
    working, unread = asyncio.create_task(work), asyncio.create_task(_unread(ready))
    await asyncio.wait({working, unread}, return_when=asyncio.FIRST_COMPLETED)
    unread.cancel()
    await asyncio.wait({unread})
    if working.done() or past():
        await working
        return
    working.cancel()
    await asyncio.wait({working})
    if not working.cancelled() and working.exception() is None:
        return
    why = "the service ended while it started"
    await undo(why)
    raise MachineError(why, next_step="any verb starts the service again")


async def _made(directory: Path, ready: int) -> None:
    async def nothing(why: str) -> None:
        del why

    await _while_asked_for(make(read_plan(directory), directory), ready, past=lambda: False, undo=nothing)


def say(ready: int, text: bytes) -> None:
    """The one thing that the service waits for; one that has ended does not, and the next one finds the machine."""
    with contextlib.suppress(BrokenPipeError):
        os.write(ready, text)
    os.close(ready)


def live(asked: Begin, ready: int, *, memory: int | None, state: int | None) -> int:
    """Do what is asked for; returns the exit code."""
    try:
        if asked.session is not None:
            hold.take(Path(asked.session))
        if asked.ahead and memory is not None and state is not None:
            asyncio.run(wait_to_become(Path(asked.session or ""), ready, memory, state))
        elif asked.session is not None:
            asyncio.run(watch_over(Path(asked.session), ready, memory, state, leased=asked.leased))
        else:
            directory = Path(asked.template or "")
            asyncio.run(_made(directory, ready))
            say(ready, b"ready\n")
    except CapsuleError as error:
        # A file of rules that is none is its author's to correct.
        kind = UsageError if isinstance(error, PolicyError) else CapsemError
        mine = error if isinstance(error, CapsemError) else kind(str(error), next_step=error.next_step)
        # Where the disk is full its log takes nothing more; who waits is told all the same.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"capsem-process: {error}\n")
            sys.stderr.flush()
        say(ready, msgspec.json.encode(told(mine)))
        return error.exit_code
    return 0
