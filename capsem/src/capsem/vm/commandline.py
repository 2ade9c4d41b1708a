"""A plan as QEMU's command line.

What QEMU uses it inherits: descriptors are numbers in the line, and only a boot names files, the kernel and the initrd.
Refuses a plan whose descriptors are not all there.

    boot(plan, descriptors, program="/usr/bin/qemu-system-x86_64")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from capsem.errors import MachineError
from capsem.vm.plan import Accelerator, Board, MachinePlan

# No program, no privilege, no old system call: QEMU's own filter, beside whatever it is confined by.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The numbers, in QEMU, of what it inherits.

    Attributes:
        qmp: its control socket.
        console: the guest's serial line.
        memory: the file that is the guest's memory.
        root: the root file system, for reading.
        ports: one socket for each of the plan's.
        disk: its own disk, for reading and writing; None without one.
    """

    qmp: int
    console: int
    memory: int
    root: int
    ports: Mapping[int, int]
    disk: int | None = None


def _suffix(plan: MachinePlan) -> str:
    return "device" if plan.board is Board.MICROVM else "pci"


def _board(plan: MachinePlan) -> str:
    return (
        plan.board.value
        if plan.interval_timer or plan.board is not Board.MICROVM
        else f"{plan.board},pit=off"
    )


def _accelerator(plan: MachinePlan) -> str:
    return "tcg,thread=multi" if plan.accelerator is Accelerator.TCG else plan.accelerator.value


def _machine(plan: MachinePlan, descriptors: Descriptors, *, program: str, shared: bool) -> list[str]:
    if set(descriptors.ports) != set(plan.ports):
        raise MachineError("a machine's ports are not all there", next_step="report this")
    if plan.disk != (descriptors.disk is not None):
        raise MachineError("a machine's disk is not the planned one", next_step="report this")
    kind = _suffix(plan)
    line = [program, "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX]
    # A clone has no kernel to start again with: after a panic it would stand there, and look as if it ran.
    line.append("-no-reboot")
    if plan.board is Board.MICROVM:
        line += ["-global", "virtio-mmio.force-legacy=false"]
    line += [
        "-M", f"{_board(plan)},memory-backend=mem", "-accel", _accelerator(plan), "-cpu", plan.processor,
        "-m", f"{plan.memory_mib}M", "-smp", str(plan.cpus),
        "-object", f"memory-backend-file,id=mem,size={plan.memory_mib}M,mem-path=/proc/self/fd/{descriptors.memory},"
        f"share={'on' if shared else 'off'}",
        "-add-fd", f"fd={descriptors.root},set=1",
        "-drive", "if=none,id=root,file=/dev/fdset/1,format=raw,readonly=on",
        "-device", f"virtio-blk-{kind},drive=root",
    ]  # fmt: skip
    if descriptors.disk is not None:
        line += [
            "-add-fd", f"fd={descriptors.disk},set=2",
            # Only for writing: the set has one descriptor, and QEMU would first ask it for one for reading.
            "-drive", "if=none,id=disk,file=/dev/fdset/2,format=raw,cache=writeback,discard=unmap,auto-read-only=off",
            # What the host has no room for is an error of that write; else the machine stands still, and nobody knows.
            "-device", f"virtio-blk-{kind},drive=disk,werror=report,rerror=report",
        ]  # fmt: skip
    line += ["-device", f"virtio-rng-{kind}", "-device", f"virtio-serial-{kind},id=serial,max_ports=8"]
    for place, port in enumerate(plan.ports, 1):
        line += [
            "-chardev", f"socket,id=p{port},fd={descriptors.ports[port]}",
            "-device", f"virtserialport,chardev=p{port},name=capsem.{port},nr={place}",
        ]  # fmt: skip
    return [
        *line,
        "-chardev", f"socket,id=console,fd={descriptors.console}", "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,fd={descriptors.qmp}", "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip


def boot(plan: MachinePlan, descriptors: Descriptors, *, program: str, shared: bool) -> list[str]:
    """The line that boots the plan's kernel.

    Args:
        plan: the machine.
        descriptors: what QEMU inherits.
        program: path of QEMU.
        shared: whether what the guest writes to its memory goes to the memory's file (a template) or stays private.
    """
    return [
        *_machine(plan, descriptors, program=program, shared=shared),
        "-kernel", plan.image.kernel, "-initrd", plan.image.initrd, "-append", plan.kernel_line,
    ]  # fmt: skip


def restore(plan: MachinePlan, descriptors: Descriptors, *, program: str, shared: bool) -> list[str]:
    """The line that waits for a state to be loaded over QMP, and then for `cont`; arguments as for `boot`."""
    return [*_machine(plan, descriptors, program=program, shared=shared), "-S", "-incoming", "defer"]
