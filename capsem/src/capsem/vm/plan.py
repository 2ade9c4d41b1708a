"""What is worked out: a spec and what is known of this host become a plan, which names every device of the machine.

A template and its clones have the same plan, so their devices match; `key` names the template a plan can start from.
Refuses to guess: accelerator, clock and QEMU's version come in as facts.

    plan = work_out(spec, image, facts)
    plan.key                         # 'b3c1…' the same for every machine that can share a template
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import asdict, dataclass

from capsem.vm.spec import MachineSpec


class Board(enum.StrEnum):
    """Which machine QEMU builds: the small one, or the one that boots where the small one does not."""

    MICROVM = "microvm"
    Q35 = "q35"


class Accelerator(enum.StrEnum):
    """Who executes the guest's instructions."""

    KVM = "kvm"
    HVF = "hvf"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found out about this host.

    Attributes:
        accelerator: the first that booted a machine here.
        why: why not a faster one; empty when it is the fastest.
        qemu: QEMU's version.
        tsc_khz: the rate of the time stamp counter, kHz.
    """

    accelerator: Accelerator
    why: str
    qemu: str
    tsc_khz: int


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files of an image that a machine opens.

    Attributes:
        digest: of the whole image.
        kernel: path of the kernel.
        initrd: path of the first root.
        root: path of the root file system.
        root_format: `squashfs` or `erofs`.
        disk: path of the disk that a machine begins with; None: an empty one.
    """

    digest: str
    kernel: str
    initrd: str
    root: str
    root_format: str
    disk: str | None = None


FIRST_PORTS = (5000, 5001, 5002, 5003, 5004, 5005)
"""Of machines that were suspended before there were others."""
SHARE = 5006
PORTS = (*FIRST_PORTS, SHARE)
_LIBRARIES = (
    "libc.so.6", "libm.so.6", "libtinfo.so.6", "libselinux.so.1", "libpcre2-8.so.0", "libacl.so.1",
    "libattr.so.1", "gconv/gconv-modules.cache",
)  # fmt: skip
_LOCALE = (
    "ADDRESS", "COLLATE", "CTYPE", "IDENTIFICATION", "MEASUREMENT", "MESSAGES/SYS_LC_MESSAGES", "MONETARY", "NAME",
    "NUMERIC", "PAPER", "TELEPHONE", "TIME",
)  # fmt: skip
_PROGRAMS = (
    "sh", "bash", "env", "true", "cat", "ls", "echo", "cp", "mv", "rm", "mkdir", "sed", "grep", "head", "tail", "sleep",
)  # fmt: skip
FIRST_READ = (
    "/etc/ld.so.preload", "/etc/ld.so.cache", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1",
    *(f"/lib/{machine}-linux-gnu/{name}" for machine in ("x86_64", "aarch64") for name in _LIBRARIES),
    "/usr/share/locale/locale.alias", "/usr/lib/locale/locale-archive",
    *(f"/usr/lib/locale/C.utf8/LC_{name}" for name in _LOCALE),
    *(f"/usr/bin/{name}" for name in _PROGRAMS),
)  # fmt: skip
"""What nearly every command begins with: a template has it in its memory, and no clone reads and unpacks it again."""


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """Every device of one machine; `commandline` writes it for QEMU.

    Attributes:
        board: the machine.
        accelerator: who executes.
        qemu: QEMU's version, since a saved state is only good for it.
        cpus: virtual processors.
        memory_mib: memory, MiB.
        image: the image's files.
        disk: whether it has a disk of its own.
        disk_mib: its size, MiB; 0 without one.
        tsc_khz: what the guest is told of its clock.
        ports: its ways to the host, by number.
        interval_timer: whether it has the old one (i8254). Emulated and left alone it wakes its QEMU 36 times a second.
            Machines that were suspended before it could be left out have it.
    """

    board: Board
    accelerator: Accelerator
    qemu: str
    cpus: int
    memory_mib: int
    image: ImageFiles
    disk: bool
    disk_mib: int
    tsc_khz: int
    ports: tuple[int, ...] = FIRST_PORTS
    interval_timer: bool = True

    @property
    def key(self) -> str:
        """Names the template: SHA-256 of everything that must match between it and a clone, 32 hex digits."""
        content = json.dumps(
            {
                **asdict(self),
                "image": self.image.digest,
                "tsc_khz": None,
                "processor": self.processor,
                "words": self._words,
                "read": FIRST_READ,
            },
            sort_keys=True,
        )
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @property
    def processor(self) -> str:
        """QEMU's model of the processor.

        Emulated, without "enhanced rep movsb": with it kernels and libraries copy and clear memory a byte at a time,
        which is fast in silicon and slow in an emulator; without it they use eight or more.
        """
        return "max,-erms,-fsrm" if self.accelerator is Accelerator.TCG else "max"

    @property
    def _words(self) -> tuple[str, ...]:
        words: tuple[str, ...] = ("console=ttyS0", "quiet", "reboot=t", "panic=-1")
        if self.accelerator is Accelerator.TCG:
            # Emulated, there is no speculation to mitigate; executed by the processor, there is. The counter is the
            # host's, and the only clock that counts finely: checked against ticks, which come late on a busy host, it
            # would be given up, and the kernel would tick 250 times a second to know the time.
            words += ("mitigations=off", "tsc=reliable")
        if not self.interval_timer and self.board is Board.MICROVM:
            # The kernel would look for its ticks, and stop when none come.
            words += ("no_timer_check",)
        return words

    @property
    def kernel_line(self) -> str:
        """The kernel's command line."""
        words = list(self._words)
        # Without it, a small board's kernel waits for ticks that do not come when the host is busy.
        words.append(f"tsc_early_khz={self.tsc_khz}")
        words += ["capsem.root=/dev/vda", f"capsem.fs={self.image.root_format}"]
        if self.disk:
            words.append("capsem.disk=/dev/vdb")
        return " ".join(words)


def work_out(
    spec: MachineSpec, image: ImageFiles, facts: HostFacts, *, board: Board = Board.MICROVM
) -> MachinePlan:
    """The plan for a spec on this host."""
    return MachinePlan(
        board=board,
        accelerator=facts.accelerator,
        qemu=facts.qemu,
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        image=image,
        disk=spec.disk_mib is not None,
        disk_mib=spec.disk_mib or 0,
        tsc_khz=facts.tsc_khz,
        ports=PORTS,
        # What executes in the processor has the kernel's own, which wakes nobody.
        interval_timer=facts.accelerator is not Accelerator.TCG,
    )
