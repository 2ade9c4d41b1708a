"""What may be asked of a machine that is to be made: its image, what is locked, the size of its disk."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from capsem.errors import ConflictError, UsageError
from capsem.host.images import Image, compared_before, open_image
from capsem.host.settings import load
from capsem.vm.bounds import DEFAULT_DISK
from capsem.vm.plan import ImageFiles
from capsem.vm.record import Record
from capsem.vm.settings import Settings
from capsem.vm.spec import MachineSpec


async def looked_up(spec: MachineSpec) -> tuple[Settings, ImageFiles]:
    """What is read of the disk before a machine is made, once that allows it: the settings, and its image.

    Raises:
        CapsemError: it may not be as it is asked for, or there is no such image.
    """
    settings = load()
    allowed(spec, settings)
    if spec.live:
        # What judges directories is loaded for a machine that shares one.
        from capsem.host.sharing import shareable

        await asyncio.to_thread(shareable, str(spec.workspace))
    # A thread takes longer than a look at the names and times of files that were read before.
    image = compared_before(spec.image)
    return settings, await asyncio.to_thread(image_files, spec.image) if image is None else _files(image)


def image_files(name: str) -> ImageFiles:
    """The files of an image that was verified.

    Raises:
        CapsemError: there is none, or it is damaged.
    """
    return _files(open_image(name))


def _files(image: Image) -> ImageFiles:
    return ImageFiles(
        image.digest, str(image.kernel), str(image.initrd), str(image.root), image.manifest.root.format,
        None if image.disk is None else str(image.disk),
    )  # fmt: skip


def allowed(spec: MachineSpec, settings: Settings) -> None:
    """Check a machine against what the organisation's file locks.

    Raises:
        UsageError: it is to be other than that file says, which is named with the line.
    """
    asked: tuple[tuple[str, object], ...] = (
        ("machine.image", spec.image), ("machine.cpu", spec.cpus), ("machine.memory", spec.memory_mib),
        ("machine.disk", spec.disk_mib), ("machine.policy", "none" if spec.network is None else spec.network.policy),
    )  # fmt: skip
    for name, wanted in asked:
        held = settings.of(name)
        value: object = held.value
        if name in {"machine.memory", "machine.disk"}:
            value = settings.mebibytes(name)
        if held.locked and wanted != value:
            raise UsageError(
                f"{name} is locked to {held.value!r} by {held.place}",
                next_step="leave the option out, or ask who looks after this host",
            )


def not_live(record: Record, act: str) -> None:
    """Refuse what a machine with a live share cannot do: its kernel holds files of the host open.

    Raises:
        ConflictError: it has one.
    """
    if record.spec.live:
        raise ConflictError(
            f"{record.names[0]} shares {record.spec.workspace} live, so it cannot be {act}: its kernel holds files of "
            "the host open, which a copy of its memory would not",
            next_step="create it with --share copy; one with a live share can be stopped and started",
        )


def with_disk_of(spec: MachineSpec, image: ImageFiles, *, usual: int | None = DEFAULT_DISK) -> MachineSpec:
    """The spec for an image: one that was forked from a machine brings a disk of its size.

    Raises:
        UsageError: another one was asked for.
    """
    if image.disk is None:
        return spec
    size = Path(image.disk).stat().st_size >> 20
    if spec.disk_mib not in {size, DEFAULT_DISK, usual}:
        raise UsageError(
            f"the image {spec.image} brings a disk of {size} MiB", next_step="leave out the size of the disk"
        )
    return replace(spec, disk_mib=size)


def fits(spec: MachineSpec, settings: Settings) -> None:
    """Check the size of a machine's disk, as it will be, against the limit.

    Raises:
        ConflictError: it is larger, and the limit, with the file that it is from.
    """
    most, held = settings.mebibytes("limits.disk"), settings.of("limits.disk")
    if most is not None and spec.disk_mib is not None and spec.disk_mib > most:
        raise ConflictError(
            f"a disk of {spec.disk_mib} MiB is larger than limits.disk, which is {held.value} ({held.place})",
            next_step=f"take a smaller one, --disk {most}M, or for good: capsem config set machine.disk {most}M",
        )
