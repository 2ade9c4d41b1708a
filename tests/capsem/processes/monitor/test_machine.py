"""What cannot be done with a machine leaves it as it was. Whole machines are in tests/vm."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from capsem.errors import ConflictError, MachineError
from capsem.processes.monitor import machine as machines
from capsem.processes.monitor.machine import Machine
from capsem.vm.lifecycle import State
from capsem.vm.plan import work_out
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec
from tests.capsem.processes.monitor.standing import ID
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


def made(tmp_path: Path) -> Machine:
    record = Record(id=ID, spec=MachineSpec(), digest="d", created="2026-01-01T00:00:00Z")
    return Machine(record, work_out(MachineSpec(), IMAGE, FACTS), tmp_path, memory=None, state=None)


async def test_who_holds_a_copy_does_not_keep_a_machine_past_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "SUSPEND_SECONDS", 0.2)
    machine = made(tmp_path)
    machine._life.state = State.SUSPENDING
    async with machine._one_copy:
        ending = asyncio.create_task(machine._end_in(0.0))
        await asyncio.sleep(0.05)
        assert not ending.done()
        await asyncio.sleep(0.5)
        assert machine._life.state == "stopping"
        machine.ended.set()
        await asyncio.wait_for(ending, 5)
        assert machine._one_copy.locked(), "it was not its own to let go of"


async def test_its_time_does_not_hurry_who_stops_it_in_order(tmp_path: Path) -> None:
    machine = made(tmp_path)
    machine._life.state = State.STOPPING
    await asyncio.wait_for(machine._end_in(0.0), 5)
    assert machine._why is None
    assert not machine._one_copy.locked()


async def test_one_that_does_not_run_is_neither_suspended_nor_copied(tmp_path: Path) -> None:
    machine = made(tmp_path)
    with pytest.raises(ConflictError):
        await machine.suspend()
    with pytest.raises(MachineError, match="the machine is created"):
        async with machine.copy("x", memory=False):
            pass
    assert list(tmp_path.iterdir()) == []
    assert machine.fields() == {"machine": ID}
