"""What this host can execute a machine with, found out by trying, never by what is there.

`/dev/kvm` may exist and run nothing, or a few instructions a second, so an accelerator counts once a machine's firmware
has run under it to its end, within a deadline.
Refuses nothing: emulation always works, and the reason why nothing faster does is part of the answer.

    facts = await host_facts(Path("/usr/bin/qemu-system-x86_64"), kept=places.run() / "host.json")
    facts.accelerator, facts.why             # (Accelerator.TCG, 'no /dev/kvm')
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
from dataclasses import replace
from pathlib import Path

import msgspec

from capsem.host.programs import qemu_version
from capsem.vm.plan import Accelerator, HostFacts

# Firmware of a board without a disk ends within a fraction of a second, emulated on a busy host within two. A KVM that
# cannot run the guest hangs, fails, or runs it slower than emulation does.
TRIAL_SECONDS = 2.0
_EMULATED_TSC_KHZ = 1_000_000


def tsc_khz(cpuinfo: str, machine: str) -> int:
    """The rate of the guest's time stamp counter, kHz.

    Args:
        cpuinfo: the text of /proc/cpuinfo (proc(5)).
        machine: as `uname -m` says. Only on x86 is an emulated counter the host's own; elsewhere it counts ns.
    """
    found = re.search(r"^cpu MHz\s*:\s*([0-9.]+)$", cpuinfo, re.MULTILINE)
    if machine != "x86_64" or found is None:
        return _EMULATED_TSC_KHZ
    return int(float(found[1]) * 1000)


async def trial(program: Path, accelerator: Accelerator, seconds: float = TRIAL_SECONDS) -> str:
    """Let a machine's firmware run under an accelerator; it ends itself by a reset that QEMU takes as the end.

    Returns:
        An empty text when it ran; else why it did not.
    """
    line = [
        str(program), "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35", "-cpu", "max", "-m", "32M",
        "-accel", accelerator.value, "-no-reboot", "-boot", "reboot-timeout=1", "-chardev", "stdio,id=fw",
        "-device", "isa-debugcon,iobase=0x402,chardev=fw",
    ]  # fmt: skip
    try:
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return f"QEMU does not start: {error}"
    assert process.stdout is not None
    assert process.stderr is not None
    said = False
    try:
        async with asyncio.timeout(seconds):
            # The firmware's words, to its last one: the guest's own instructions were executed, and fast enough.
            while await process.stdout.read(4096):
                said = True
            complaint = (await process.stderr.read(4096)).decode(errors="replace").strip().splitlines()
            code = await process.wait()
        if said and code == 0:
            return ""
        return complaint[-1] if complaint else f"QEMU ended with {code}"
    except TimeoutError:
        return f"the firmware {'did not end' if said else 'executed nothing'} within {seconds:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _unusable(accelerator: Accelerator) -> str:
    """Why an accelerator need not be tried; empty when it must be."""
    if accelerator is Accelerator.KVM:
        if not Path("/dev/kvm").exists():
            return "no /dev/kvm"
        return "" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "/dev/kvm may not be opened by this user"
    return "" if platform.system() == "Darwin" else "not macOS"


class _Kept(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Facts, and what they hold for: this boot of the host, this file of QEMU, this access to KVM."""

    basis: str
    facts: HostFacts


def _basis(program: Path) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    status = program.stat()
    words = (
        boot.read_text().strip() if boot.exists() else platform.node(),
        program, status.st_ino, status.st_mtime_ns, status.st_size, _unusable(Accelerator.KVM),
    )  # fmt: skip
    return " ".join(map(str, words))


async def host_facts(program: Path, *, kept: Path | None = None) -> HostFacts:
    """The facts of this host, with the fastest accelerator that runs.

    Args:
        program: QEMU.
        kept: a file in which they are kept until the host or QEMU is another; an accelerator that does not work costs
            its trial once.

    Raises:
        QemuMissingError: QEMU does not run at all.
    """
    basis = _basis(program)
    if kept is not None:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(kept.read_bytes(), type=_Kept)
            if found.basis == basis:
                return found.facts
    facts = await _tried(program)
    if kept is not None:
        _keep(kept, _Kept(basis, facts))
    return facts


def without_accelerator(facts: HostFacts, program: Path, why: str, *, kept: Path) -> HostFacts:
    """The facts once it is known that no machine boots under the accelerator that passed its trial; kept, too."""
    reasons = [reason for reason in (facts.why, f"{facts.accelerator}: {why}") if reason]
    found = replace(facts, accelerator=Accelerator.TCG, why="; ".join(reasons))
    _keep(kept, _Kept(_basis(program), found))
    return found


def _keep(place: Path, facts: _Kept) -> None:
    fresh = place.with_name(f"{place.name}.new")
    fresh.write_bytes(msgspec.json.encode(facts))
    fresh.replace(place)


async def _tried(program: Path) -> HostFacts:
    version = await asyncio.to_thread(qemu_version, program)
    why = []
    chosen = Accelerator.TCG
    for accelerator in (Accelerator.KVM, Accelerator.HVF):
        reason = _unusable(accelerator) or await trial(program, accelerator)
        if not reason:
            chosen = accelerator
            break
        if reason != "not macOS":
            why.append(f"{accelerator}: {reason}")
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    return HostFacts(chosen, "; ".join(why), version, tsc_khz(text, platform.machine()))


__all__ = ["TRIAL_SECONDS", "host_facts", "trial", "tsc_khz", "without_accelerator"]
