"""A machine for tests of images and agents: QEMU, ports over socket pairs, nothing else.

with Machine(image) as machine:
    channel = Channel({5000: machine.sockets[5000]})
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from capsem.host.images import Image
from capsem.host.programs import find_qemu
from capsem.vm.image import Flavour

PORTS = (5000, 5005)


def flavours() -> tuple[Flavour, ...]:
    """The kernels that are tested. Ours takes minutes to compile where it is not cached: CAPSEM_TEST_KERNEL=stock."""
    return ("stock",) if os.environ.get("CAPSEM_TEST_KERNEL") == "stock" else ("hardened", "stock")


def processor_khz() -> int:
    """The frequency of this host's time stamp counter: an emulated machine cannot measure it under load."""
    found = re.search(r"cpu MHz\s*: ([0-9.]+)", Path("/proc/cpuinfo").read_text())
    return int(float(found[1]) * 1000) if found else 1_000_000


class Machine:
    """One machine, killed when the block ends; its console's text is in `console`."""

    def __init__(self, image: Image, room: Path, *, memory: str = "256M") -> None:
        self.console = room / "console"
        self.sockets: dict[int, socket.socket] = {}
        self._ends: list[socket.socket] = []
        self._image, self._memory = image, memory

    def _arguments(self) -> list[str]:
        line = (
            f"console=ttyS0 quiet reboot=t panic=-1 mitigations=off tsc_early_khz={processor_khz()} "
            "capsem.root=/dev/vda capsem.fs=squashfs"
        )
        arguments = [
            str(find_qemu()), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-global", "virtio-mmio.force-legacy=false", "-M", "microvm", "-accel", "tcg", "-cpu", "max",
            "-m", self._memory, "-smp", "1", "-serial", f"file:{self.console}",
            "-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd), "-append", line,
            "-drive", f"if=none,id=root,file={self._image.root},format=raw,readonly=on",
            "-device", "virtio-blk-device,drive=root", "-device", "virtio-rng-device",
            "-device", "virtio-serial-device,max_ports=8",
        ]  # fmt: skip
        for number, port in enumerate(PORTS, start=1):
            ours, theirs = socket.socketpair()
            self.sockets[port] = ours
            self._ends.append(theirs)
            arguments += ["-chardev", f"socket,id=c{port},fd={theirs.fileno()}"]
            arguments += ["-device", f"virtserialport,chardev=c{port},name=capsem.{port},nr={number}"]
        return arguments

    def __enter__(self) -> Self:
        arguments = self._arguments()
        self._qemu = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, pass_fds=[end.fileno() for end in self._ends]
        )
        for end in self._ends:
            end.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._qemu.send_signal(signal.SIGKILL)
        self._qemu.wait()
        for ours in self.sockets.values():
            ours.close()
        if value is not None and self.console.exists():
            value.add_note(f"console:\n{self.console.read_text(errors='replace')[-4000:]}")
