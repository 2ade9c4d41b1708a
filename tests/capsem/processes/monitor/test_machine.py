"""What cannot be done with a machine leaves it as it was. Whole machines are in tests/vm."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from capsem.errors import ConflictError, MachineError, NoRoomError
from capsem.host import places
from capsem.host.operation import ask
from capsem.processes.monitor import evidence
from capsem.processes.monitor import machine as machines
from capsem.processes.monitor.machine import Machine
from capsem.vm.lifecycle import State
from capsem.vm.plan import work_out
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec
from capsem.wire.monitor import Deadline
from tests.capsem.processes.monitor.standing import ID, standing
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


async def came(machine: Machine) -> None:
    """Returns when the machine is being ended; here that has no QEMU, and its agent is not asked to shut it down."""
    machine._life.state = State.SUSPENDING
    async with asyncio.timeout(20):
        while machine._life.state is not State.STOPPING:
            await asyncio.sleep(0.02)
    machine.ended.set()
    assert machine._deadline is not None
    await machine._deadline


def deadlines() -> list[dict[str, Any]]:
    """What is on the log of them, and that it is full."""
    lines = [json.loads(line) for line in places.log(ID).read_text().splitlines()]
    log = {"seq", "time", "mono", "run"}
    kinds = ("machine.deadline", "machine.log_")
    return [
        {name: value for name, value in line.items() if name not in log}
        for line in lines
        if str(line.get("type")).startswith(kinds)
    ]


async def test_a_deadline_is_on_the_log_when_it_is_set_moved_lifted_and_comes(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        door = places.monitor_socket(ID)
        for after_ms in (None, 60_000, 1_500, None, 300):
            await ask(door, Deadline(after_ms))
        await came(machine)
        machine._life.state = State.RUNNING
        with pytest.raises(ConflictError, match="is over"):
            await ask(door, Deadline(60_000))
    kinds = "machine.deadline", "machine.deadline_came"
    assert deadlines() == [
        {"type": kinds[0], "reason": "set", "after_ms": 60_000},
        {"type": kinds[0], "reason": "moved", "after_ms": 1_500},
        {"type": kinds[0], "reason": "lifted"},
        {"type": kinds[0], "reason": "set", "after_ms": 300},
        {"type": kinds[1], "after_ms": 300},
    ]


async def test_one_that_has_come_is_not_moved_any_more(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine, machine._one_copy:
        await machine.end_after(0.05)
        async with asyncio.timeout(20):
            while not machine._time_over:
                await asyncio.sleep(0.02)
        for wrong in (None, 60.0):
            with pytest.raises(ConflictError, match="is over"):
                await machine.end_after(wrong)
        assert machine._deadline is not None
        machine._deadline.cancel()
    assert [one["type"] for one in deadlines()] == ["machine.deadline", "machine.deadline_came"]


async def test_without_room_a_deadline_stays_as_it_was_and_still_ends_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path) as machine:
        await machine.end_after(1.0)
        monkeypatch.setattr(evidence, "LEFT", 1 << 62)
        for refused in (None, 60.0):
            with pytest.raises(NoRoomError, match="is full"):
                await machine.end_after(refused)
        ends_in = machine.status().ends_in_ms
        assert ends_in is not None
        assert ends_in <= 1000
        await came(machine)
    assert [one["type"] for one in deadlines()] == [
        "machine.deadline", "machine.log_full", "machine.deadline_came",
    ]  # fmt: skip


async def test_without_a_recorder_a_deadline_is_not_set_and_one_that_was_still_comes(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        await machine.end_after(0.5)
        machine.evidence._process.kill()
        await machine.evidence._process.wait()
        with pytest.raises(MachineError, match="cannot be recorded"):
            await machine.end_after(60.0)
        await came(machine)


async def test_one_that_does_not_run_is_neither_suspended_nor_copied(tmp_path: Path) -> None:
    machine = made(tmp_path)
    with pytest.raises(ConflictError):
        await machine.suspend()
    with pytest.raises(MachineError, match="the machine is created"):
        async with machine.copy("x", memory=False):
            pass
    assert list(tmp_path.iterdir()) == []
    assert machine.fields() == {"machine": ID}
