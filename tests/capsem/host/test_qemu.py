from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import memory
from capsem.host.qemu import Files, Qemu, launch
from capsem.vm.commandline import SANDBOX, Descriptors

pytestmark = pytest.mark.asyncio


def empty_machine(descriptors: Descriptors) -> list[str]:
    """A QEMU without a machine: it starts in ms and speaks QMP."""
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-M", "none", "-sandbox", SANDBOX,
        "-chardev", f"socket,id=qmp,fd={descriptors.qmp}", "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip


@contextlib.contextmanager
def nothing() -> Iterator[Files]:
    blank = memory.blank("t", 4096)
    try:
        yield Files(blank, blank)
    finally:
        os.close(blank)


async def started() -> Qemu:
    with nothing() as files:
        return await launch(empty_machine, files)


@pytest.mark.needs("qemu")
async def test_it_is_driven_and_ended() -> None:
    qemu = await started()
    assert (await qemu.execute("query-status"))["status"] in {"prelaunch", "running"}
    with pytest.raises(MachineError, match="did not do 'no-such-command'"):
        await qemu.execute("no-such-command")
    await qemu.execute("quit")
    assert await qemu.wait() == 0
    await qemu.end()
    with pytest.raises(MachineError):
        await qemu.execute("query-status")


@pytest.mark.needs("qemu")
async def test_it_inherits_what_it_is_given_and_nothing_else() -> None:
    stray = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(stray, True)
    qemu = await started()
    try:
        held = [os.readlink(link) for link in Path(f"/proc/{qemu.pid}/fd").iterdir()]
        assert "/etc/hostname" not in held
        status = Path(f"/proc/{qemu.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status
    finally:
        os.close(stray)
        await qemu.end()
    assert not Path(f"/proc/{qemu.pid}").exists()


async def test_a_program_that_ends_at_once_is_told_with_its_last_words() -> None:
    with nothing() as files:
        with pytest.raises(MachineError, match=r"ended with 3 .*no such accelerator"):
            await launch(lambda _: ["/bin/sh", "-c", "echo no such accelerator >&2; exit 3"], files)
        with pytest.raises(MachineError, match="does not start"):
            await launch(lambda _: ["/nowhere/qemu"], files)


@pytest.mark.needs("qemu")
async def test_it_ends_when_whoever_started_it_is_killed() -> None:
    script = textwrap.dedent("""
        import asyncio, os
        from tests.capsem.host.test_qemu import started
        async def main():
            qemu = await started()
            print(qemu.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """)
    root = Path(__file__).parents[3]  # wherever another test went
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists(), "QEMU outlived who started it"
