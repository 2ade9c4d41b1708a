"""Making a template: boot once, stop before anything has an identity, keep memory, devices and disk.

Refuses to keep a machine that something has run in: what clones share must be no one's.

    await make(plan, directory)          # directory: memory, state, disk, console.log
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from capsem.errors import MachineError
from capsem.host import memory as memories
from capsem.host import shortage
from capsem.host.channel import Channel
from capsem.host.confinement import confined
from capsem.host.disk import blank_disk, copy_disk, open_disks
from capsem.host.jobs import GuestError
from capsem.host.programs import find_qemu
from capsem.host.qemu import Files, launch
from capsem.processes.monitor.console import keep
from capsem.processes.monitor.reporting import WATCHED
from capsem.processes.monitor.running import BOOT_SECONDS
from capsem.vm.commandline import boot
from capsem.vm.plan import FIRST_READ, MachinePlan
from capsem.wire.guest import PORTS as WIRE_PORTS
from capsem.wire.guest import Sync

TRIES = 3


async def make(plan: MachinePlan, directory: Path) -> None:
    """Boot and keep; a boot that hangs is tried again.

    Raises:
        MachineError: it does not boot.
    """
    why: Exception | None = None
    for _ in range(TRIES):
        try:
            # A disk that cannot be made is no fault of the image: that is said in its own words.
            await _disk(plan, directory)
        except OSError as error:
            raise _no_room(error, directory) from error
        try:
            async with asyncio.timeout(BOOT_SECONDS[plan.accelerator]):
                await _once(plan, directory)
        except (MachineError, TimeoutError) as error:
            why = error
        except OSError as error:
            # Booting again would not give it room.
            raise _no_room(error, directory) from error
        else:
            return
    reason = str(why) or f"its agent did not answer within {BOOT_SECONDS[plan.accelerator]:g} s"
    console = directory / "console.log"
    said = console.read_text(errors="replace").strip().splitlines()[-1:] if console.exists() else []
    raise MachineError(
        f"the image does not boot: {reason}{f'; the console says: {said[0]}' if said else ''}",
        next_step="verify the image: capsem image verify",
    ) from why


def _no_room(error: OSError, directory: Path) -> MachineError:
    return MachineError(
        f"the template cannot be kept: {shortage.why(error, directory.parent)}",
        next_step=shortage.step(error, otherwise=f"see that {directory.parent} can be written"),
    )


async def _disk(plan: MachinePlan, directory: Path) -> None:
    if not plan.disk:
        return
    place = directory / "disk"
    if plan.image.disk is None:
        await asyncio.to_thread(blank_disk, place, plan.disk_mib)
    else:
        place.unlink(missing_ok=True)
        await asyncio.to_thread(copy_disk, Path(plan.image.disk), place)


async def _once(plan: MachinePlan, directory: Path) -> None:
    memory = memories.blank("memory", plan.memory_mib << 20)
    state = memories.blank("state")
    program = str(find_qemu())
    with contextlib.ExitStack() as stack:
        root, disk = open_disks(stack, plan, directory / "disk")
        qemu = await launch(
            lambda d: boot(plan, d, program=program, shared=True), Files(memory, root, disk, plan.ports),
            confine=confined(directory / "qemu.log", reads=plan.image.kernel),
        )  # fmt: skip
    keeping = asyncio.create_task(keep(qemu.console, directory / "console.log"))
    try:
        async with Channel({number: qemu.ports[number] for number in WIRE_PORTS}) as channel:
            told = await channel.hello()
            # Its clones tell from their first moment. One that cannot says so to whoever asks it again.
            with contextlib.suppress(GuestError):
                await channel.watch(processes=True, changes=WATCHED)
            if "prefetch" in told.capabilities:
                await channel.prefetch(FIRST_READ)
            # What its boot wrote is on its disk: else each clone writes it again, some seconds after it came to rest.
            await channel.lifecycle(Sync)
            await qemu.execute("stop")
            await qemu.save(state)
            await qemu.execute("quit")
            await qemu.wait()
        for descriptor, name in ((memory, "memory"), (state, "state")):
            (directory / name).unlink(missing_ok=True)
            await asyncio.to_thread(memories.to_file, descriptor, directory / name)
    finally:
        await qemu.end()
        await keeping
        os.close(memory)
        os.close(state)
