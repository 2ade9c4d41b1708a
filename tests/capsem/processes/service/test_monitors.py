from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from capsem.errors import MachineError
from capsem.host import memory as memories
from capsem.host import places
from capsem.host.link import Link
from capsem.processes.service import monitors
from capsem.wire.monitor import Copied, encode
from tests.capsem.processes.monitor.standing import ID, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_status_and_end(tmp_path: Path) -> None:
    assert await monitors.status_of(ID) is None
    await monitors.stop(ID, force=False)
    async with standing(tmp_path):
        status = await monitors.status_of(ID)
        assert status is not None
        assert status.state == "running"
    assert await monitors.status_of(ID) is None
    places.monitor_socket(ID).touch()
    assert await monitors.status_of(ID) is None, "a file that nobody listens on is no monitor"


@pytest_asyncio.fixture
async def answer() -> AsyncIterator[list[Copied]]:
    """A monitor that says it copied what is put here."""
    import asyncio

    said: list[Copied] = []

    async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        await link.receive()
        await link.send(encode(said[0]))
        await link.receive()
        await link.close()

    places.prepare()
    server = await asyncio.start_unix_server(came, places.monitor_socket(ID))
    async with server:
        yield said


async def test_a_copy_is_taken_over_from_the_monitor_s_process(answer: list[Copied]) -> None:
    ram, state = memories.blank("t", 4096), memories.blank("t", 10)
    os.pwrite(ram, b"memory", 0)
    memories.seal(ram)
    memories.seal(state)
    answer.append(Copied(7, "checkpoint", os.getpid(), ram, state))
    async with monitors.copy(ID, "x", memory=True) as copy:
        assert copy.told.paused_ms == 7
        assert os.pread(copy.memory, 6, 0) == b"memory"
        taken = copy.memory
        assert taken not in {ram, state}
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(taken)
    for one in (ram, state):
        os.close(one)


async def test_a_copy_that_could_still_change_is_refused(answer: list[Copied]) -> None:
    ram, file = memories.blank("t", 4096), os.open("/etc/hostname", os.O_RDONLY)
    for said in (Copied(7, "c", os.getpid(), ram, ram), Copied(7, "c", os.getpid(), file, file),
                 Copied(7, "c", os.getpid(), 9999, 9999), Copied(7, "c")):  # fmt: skip
        answer[:] = [said]
        with pytest.raises(MachineError):
            async with monitors.copy(ID, "x", memory=True):
                pass
    for one in (ram, file):
        os.close(one)
