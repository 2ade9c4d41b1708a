from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import places
from capsem.host.lease import Lease
from capsem.processes.monitor.door import Door
from tests.capsem.processes.monitor.standing import standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_a_lease_that_was_never_taken_is_nothing(tmp_path: Path) -> None:
    lease = Lease()
    await lease.let_stay()
    assert await lease.end() is None
    await lease.close()
    with pytest.raises(MachineError, match="does not answer"):
        await lease.take({"socket": str(tmp_path / "none")})


async def test_a_machine_that_has_ended_cannot_be_let_stay(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        place = places.run() / "leased.sock"
        async with Door(machine, place, leased=True):
            lease = Lease()
            await lease.take({"socket": str(place)})
            machine.ended.set()
            assert lease._socket is not None
            assert await asyncio.get_running_loop().sock_recv(lease._socket, 1) == b""
            with pytest.raises(MachineError, match="has gone"):
                await lease.let_stay()
            await lease.close()
