"""A machine that cannot start says why, and leaves nothing behind. Whole machines are in tests/vm."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from qemu.qmp import QMPClient

from capsem.errors import MachineError
from capsem.host import places
from capsem.host.channel import Channel
from capsem.host.qemu import Qemu
from capsem.processes.monitor.machine import Machine
from capsem.vm.plan import work_out
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec
from capsem.wire.guest import CONTROL
from tests.capsem.processes.monitor.standing import ID
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


@pytest.mark.needs("qemu", "userns", "landlock", "seccomp-notify")
async def test_a_boot_that_fails_is_tried_again_and_then_told(tmp_path: Path) -> None:
    places.prepare()
    root = tmp_path / "root"
    root.write_bytes(b"\0" * 4096)
    (tmp_path / "initrd").write_bytes(b"x")
    image = replace(IMAGE, kernel=str(tmp_path / "none"), initrd=str(tmp_path / "initrd"), root=str(root))
    spec = MachineSpec(memory_mib=128)
    record = Record(id=ID, spec=spec, digest="d", created="2026-01-01T00:00:00Z")
    machine = Machine(record, work_out(spec, image, FACTS), tmp_path, memory=None, state=None)
    with pytest.raises(MachineError, match="does not start: QEMU ended with 1"):
        await machine.start()
    with pytest.raises(MachineError, match="the machine is failed"):
        _ = machine.channel
    assert machine.status().state == "failed"
    kinds = [json.loads(line).get("type") for line in places.log(ID).read_text().splitlines()]
    assert kinds.count("machine.boot_failed") == 3
    assert "machine.started" in kinds


async def test_before_its_start_there_is_neither_agent_nor_record(tmp_path: Path) -> None:
    spec = MachineSpec()
    record = Record(id=ID, spec=spec, digest="d", created="2026-01-01T00:00:00Z")
    machine = Machine(record, work_out(spec, IMAGE, FACTS), tmp_path, memory=None, state=None)
    with pytest.raises(MachineError, match="is created"):
        _ = machine.channel
    with pytest.raises(MachineError, match="no record"):
        _ = machine.evidence


async def test_a_machine_whose_agent_is_not_believed_is_ended(tmp_path: Path) -> None:
    spec = MachineSpec()
    record = Record(id=ID, spec=spec, digest="d", created="2026-01-01T00:00:00Z")
    machine = Machine(record, work_out(spec, IMAGE, FACTS), tmp_path, memory=None, state=None)
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec("sleep", "600")
    qemu = Qemu(process, QMPClient("machine"), {}, theirs)
    async with Channel({CONTROL: ours}) as channel:
        ending = asyncio.create_task(machine._disbelieve(channel, qemu))
        theirs.sendall(b"\0\0\0\0")
        async with asyncio.timeout(30):
            assert await process.wait() == -signal.SIGKILL
            await ending
    theirs.close()
    assert machine._why == (
        "what its agent says is not believed any more: a frame of 0 bytes; from 1 to 1048576 are allowed"
    )


async def test_a_port_that_hangs_up_is_no_lie() -> None:
    ours, theirs = socket.socketpair()
    async with Channel({CONTROL: ours}) as channel:
        theirs.close()
        async with asyncio.timeout(30):
            while channel.error is None:
                await asyncio.sleep(0.001)
        assert not channel.broken.is_set()
