"""What is made of a machine as it is now: an image (`fork`), and machines that go on from there (`branch`).

Refuses a fork of a machine without a disk, and a branch of one that does not run.

    await fork(registry, record, "with-tools")
    children = await branch(registry, record, 3)
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from capsem.errors import ConflictError, UsageError
from capsem.host import images, places
from capsem.host.disk import copy_disk
from capsem.host.whole import write_whole
from capsem.processes.service import monitors
from capsem.processes.service.admission import not_live
from capsem.processes.service.registry import Registry
from capsem.processes.service.room import of_copy
from capsem.vm.image import wanted_name
from capsem.vm.lifecycle import State
from capsem.vm.quantities import machine_name
from capsem.vm.record import Origin, Record, next_step
from capsem.wire.monitor import Copied, Status

MOST_CHILDREN = 64


async def fork(registry: Registry, record: Record, name: str) -> images.Image:
    """Make an image of a machine's disk; the machine stays as it is.

    Raises:
        ConflictError: it has no disk, or an image has this name.
        MachineError: it runs and could not be copied.
    """
    not_live(record, "forked")
    wanted_name(name)
    if name in images.names():
        raise ConflictError(f"there is an image named {name}", next_step="choose another name")
    if record.spec.disk_mib is None:
        raise ConflictError(
            f"{record.names[0]} has no disk to make an image of",
            next_step="capsem create it without --disk none",
        )
    async with registry.turn(record):
        record, status = await registry.seen(registry.find(record.id))
        place = _place(record)
        base = await asyncio.to_thread(images.open_image, record.digest)
        try:
            needed = await asyncio.to_thread(of_copy, record.id)
            async with registry.room.taken(f"the image {name}", needed):
                return await _forked(record, status, place, base, name)
        finally:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)


async def _forked(
    record: Record, status: Status | None, place: Path, base: images.Image, name: str
) -> images.Image:
    if status is not None:
        # The copy is there as long as the monitor is asked for it: it goes with us, if we are ended.
        async with monitors.copy(record.id, place.name, memory=False):
            return await asyncio.to_thread(images.fork, base, place / "disk", name)
    place.mkdir(mode=0o700, parents=True)
    await asyncio.to_thread(copy_disk, places.session(record.id) / "disk", place / "disk")
    return await asyncio.to_thread(images.fork, base, place / "disk", name)


def _place(record: Record) -> Path:
    return places.session(record.id) / "copies" / secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Branched:
    """What a branch came to.

    Attributes:
        paused_ms: how long the parent stood still.
        answered_ms: from when it ran on until the last child answered.
        children: all of them, each of which has answered.
    """

    paused_ms: int
    answered_ms: int
    children: list[Record]


async def branch(
    registry: Registry, record: Record, count: int, names: Sequence[str] = (), *, leased: bool = False
) -> Branched:
    """Make machines that go on from where a running one is now; it runs on itself.

    Args:
        registry: of both.
        record: the parent.
        count: how many.
        names: theirs; none for temporary ones.
        leased: whether temporary ones end with the client that holds their leases.

    Raises:
        ConflictError: it does not run, or a name is taken.
        UsageError: too many or none, or another number of names.
        MachineError: it could not be copied, or a child did not answer; then none of them is left.
    """
    not_live(record, "branched")
    if not 1 <= count <= MOST_CHILDREN or (names and len(names) != count) or len(set(names)) != len(names):
        raise UsageError(
            f"{count} branches with {len(names)} names",
            next_step=f"from 1 to {MOST_CHILDREN}, with a name of its own for each or none",
        )
    for name in names:
        machine_name(name)
    async with registry.turn(record):
        record, status = await registry.seen(registry.find(record.id))
        if status is None:
            raise ConflictError(f"{record.names[0]} is {record.state}", next_step=next_step(record) or "")
        needed = count * await asyncio.to_thread(of_copy, record.id)
        async with registry.room.taken(f"{count} branches of {record.names[0]}", needed):
            return await _branched(registry, record, count, names, leased=leased and not names)


async def _branched(
    registry: Registry, record: Record, count: int, names: Sequence[str], *, leased: bool
) -> Branched:
    place = _place(record)
    children: list[Record] = []
    try:
        async with monitors.copy(record.id, place.name, memory=True) as copy:
            began = time.monotonic()
            for number in range(count):
                called = names[number] if names else None
                last = number == count - 1
                children.append(await _child(registry, record, place, copy.told, called, last=last))
            done = await asyncio.gather(
                *(
                    registry.launched(
                        child,
                        registry.plan_of(record),
                        template=record.template,
                        start_from=(copy.memory, copy.state),
                        leased=leased,
                    )
                    for child in children
                ),
                return_exceptions=True,
            )
            answered = time.monotonic() - began
            for one in done:
                if isinstance(one, BaseException):
                    raise one
    except BaseException:
        for child in children:
            await registry.delete(child, force=True)
        raise
    finally:
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
    return Branched(
        copy.told.paused_ms, int(answered * 1000), [one for one in done if isinstance(one, Record)]
    )


async def _child(
    registry: Registry, parent: Record, place: Path, copied: Copied, name: str | None, *, last: bool
) -> Record:
    """A machine that is to go on where its parent stood still; the last one takes the copy of the disk itself."""
    spec = replace(parent.spec, name=name)
    origin = Origin(parent.id, place.name, copied.checkpoint)

    def furnish(directory: Path) -> None:
        if parent.spec.disk_mib is not None:
            if last:
                (place / "disk").rename(directory / "disk")
            else:
                copy_disk(place / "disk", directory / "disk")
        # What stood for secrets in the parent's memory stands for them in the child's.
        kept = places.session(parent.id) / "placeholders.json"
        if kept.exists():
            write_whole(directory / kept.name, kept.read_bytes())
        workspace = places.session(parent.id) / "workspace"
        if workspace.is_dir():
            shutil.copytree(workspace, directory / "workspace", symlinks=True)

    child = await registry.added(spec, parent.digest, origin)
    try:
        await asyncio.to_thread(furnish, places.session(child.id))
    except BaseException:
        await registry.delete(child, force=True)
        raise
    return registry.put(msgspec.structs.replace(child, state=State.STARTING))
