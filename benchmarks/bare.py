"""The least that any machine costs here: a QEMU from the template that the service made, and nothing around it.

The same kernel, image, emulator and agent; no service, no monitor, no sandbox, no record. Refuses a home whose service
has made no template, or more than one.

    with Template(home) as template:
        async with Bare(template) as bare:
            await bare.identify()
            await bare.run("true")
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.measure import NotWorkingError
from capsem.host import memory
from capsem.host.channel import Channel
from capsem.host.disk import copy_disk, open_disks
from capsem.host.plans import read_plan
from capsem.host.programs import find_qemu
from capsem.host.qemu import Files, Qemu, launch
from capsem.vm.commandline import restore
from capsem.wire.guest import NETWORK, PORTS

MIB = 1 << 20


class Template:
    """What a service made in its home, for any number of machines to start from."""

    def __init__(self, home: Path) -> None:
        found = [one.parent for one in home.glob("templates/*/complete")]
        if len(found) != 1:
            raise NotWorkingError(f"{home} has {len(found)} templates")
        self.home, self.directory = home, found[0]
        self.plan = read_plan(self.directory)
        self.ram = memory.from_file(self.directory / "memory", "memory")
        self.state = memory.from_file(self.directory / "state", "state")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.ram)
        os.close(self.state)


class Bare:
    """One.

    Attributes:
        qemu: the emulator.
        begun: when it was started, by `time.perf_counter`.
    """

    def __init__(self, template: Template) -> None:
        self._template = template
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        template, plan = self._template, self._template.plan
        async with contextlib.AsyncExitStack() as stack:
            room = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=template.home)))
            if plan.disk:
                copy_disk(template.directory / "disk", room / "disk")
            with contextlib.ExitStack() as disks:
                root, disk = open_disks(disks, plan, room / "disk")
                self.begun = time.perf_counter()
                self.qemu: Qemu = await launch(
                    lambda d: restore(plan, d, program=str(find_qemu()), shared=False),
                    Files(template.ram, root, disk, plan.ports),
                )
            stack.push_async_callback(self.qemu.end)
            state = memory.reopened(template.state)
            stack.callback(os.close, state)
            await self.qemu.load(state)
            ports = {number: self.qemu.ports[number] for number in PORTS if number != NETWORK}
            self._channel = await stack.enter_async_context(Channel(ports))
            await self.qemu.execute("cont")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def identify(self) -> None:
        """Tell it who it is."""
        await self._channel.identify(os.urandom(64), "bare", time.time_ns())

    async def run(self, *argv: str) -> None:
        """One command, to its end."""
        job = await self._channel.exec(argv)
        if (await job.wait()).code != 0:
            raise NotWorkingError(f"{argv[0]} did not end with 0")

    async def file_in(self, size: int) -> float:
        """MB/s of one file of so many bytes into it."""
        content = os.urandom(size)
        start = time.perf_counter()
        job = await self._channel.write_file("/dev/shm/copy")
        for place in range(0, size, MIB):
            await job.stdin.write(content[place : place + MIB])
        job.stdin.end()
        await job.result()
        rate = size / 1e6 / (time.perf_counter() - start)
        # Half of the guest's memory is all that there is room for, and a new file is there before it takes its place.
        await self._channel.file("remove", "/dev/shm/copy")
        return rate
