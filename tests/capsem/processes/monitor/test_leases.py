from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from capsem.errors import ConflictError
from capsem.host import places
from capsem.host.lease import Lease
from capsem.processes.monitor import leases
from capsem.processes.monitor.door import Door
from capsem.processes.monitor.machine import Machine
from capsem.vm.lifecycle import State
from capsem.vm.record import Record, encode
from capsem.vm.spec import MachineSpec
from tests.capsem.processes.monitor.standing import ID, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not so():
            await asyncio.sleep(0.01)


def stopped(machine: Machine) -> bool:
    """There is no QEMU here, so that being asked to end is all that can be seen of it."""
    return machine._life.state is State.STOPPING


def door(machine: Machine) -> tuple[Door, dict[str, str]]:
    place = places.run() / "leased.sock"
    return Door(machine, place, leased=True), {"socket": str(place)}


def named(name: str) -> None:
    """What its service writes when the machine is given a name."""
    places.session(ID).mkdir(mode=0o700)
    spec = MachineSpec(name=name)
    record = Record(id=ID, spec=spec, digest="d", created="2026-01-01T00:00:00Z", state=State.RUNNING)
    (places.session(ID) / "session.json").write_bytes(encode(record))


async def test_a_machine_ends_with_the_client_that_holds_it(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        opened, at = door(machine)
        async with opened:
            first, second = Lease(), Lease()
            await first.take(at)
            await second.take(at)
            await first.close()
            await asyncio.sleep(0.2)
            assert not stopped(machine), "somebody has it still"
            await second.close()
            await until(lambda: stopped(machine))
            assert machine._why == "the client that it was made for has gone"
            machine.ended.set()


async def test_a_client_that_never_comes_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "GRACE_SECONDS", 0.1)
    async with standing(tmp_path) as machine:
        opened, _ = door(machine)
        async with opened:
            await until(lambda: stopped(machine))
            machine.ended.set()


async def test_it_stays_when_its_client_says_so_or_it_was_given_a_name(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        opened, at = door(machine)
        async with opened:
            lease = Lease()
            await lease.take(at)
            await lease.let_stay()
            await lease.close()
            await asyncio.sleep(0.2)
            assert not stopped(machine)
    (tmp_path / "other").mkdir()
    async with standing(tmp_path / "other") as machine:
        named("mine")
        opened, at = door(machine)
        async with opened:
            lease = Lease()
            await lease.take(at)
            await lease.close()
            await asyncio.sleep(0.2)
            assert not stopped(machine)


async def test_who_is_done_with_a_machine_sees_its_end(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        opened, at = door(machine)
        async with opened:
            lease = Lease()
            await lease.take(at)
            ending = asyncio.create_task(lease.end())
            await until(lambda: stopped(machine))
            await asyncio.sleep(0.1)
            assert not ending.done(), "it has not ended yet"
            assert machine._why is None, "nobody has gone"
            machine.ended.set()
            async with asyncio.timeout(30):
                assert await ending is None
            await lease.close()


async def test_who_is_done_with_a_machine_that_has_a_name_is_told_of_it(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        named("mine")
        opened, at = door(machine)
        async with opened:
            lease = Lease()
            await lease.take(at)
            assert await lease.end() == "mine"
            await lease.close()
            await asyncio.sleep(0.2)
            assert not stopped(machine)


async def test_an_ordinary_machine_has_no_lease(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        with pytest.raises(ConflictError, match="not made for one client"):
            await Lease().take({"socket": str(places.monitor_socket(ID))})
        await asyncio.sleep(0.1)
        assert not stopped(machine)


async def test_who_holds_a_machine_does_not_delay_its_end(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        opened, at = door(machine)
        async with opened:
            lease = Lease()
            await lease.take(at)
            machine.ended.set()
            # Its connection goes, though we do nothing: the monitor need not wait for us.
            assert lease._socket is not None
            async with asyncio.timeout(30):
                assert await asyncio.get_running_loop().sock_recv(lease._socket, 1) == b""
            await lease.close()
