"""What comes first: the record of a machine's start, or its guest. Judged from QEMU, the recorder being held back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capsem.errors import MachineError
from capsem.host import memory, places
from capsem.host.disk import copy_disk
from capsem.host.plans import read_plan
from capsem.processes.monitor.evidence import Evidence
from capsem.processes.monitor.machine import Machine
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec
from tests.vm.logged import logged
from tests.vm.marks import SANDBOX, machines
from tests.vm.processes import qemus_of
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = [*machines(900, *SANDBOX), pytest.mark.asyncio]
ID = "m-00000001"


@pytest.fixture
def clone(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine of the template that a service made, which is not started yet."""
    home.capsem("run", "--image", "minimal", "--", "true")
    monkeypatch.setenv("CAPSEM_HOME", str(home.path))
    (template,) = (one.parent for one in home.path.glob("templates/*/complete"))
    plan = read_plan(template)
    directory = places.session(ID)
    directory.mkdir(mode=0o700)
    places.log(ID).unlink(missing_ok=True)
    if plan.disk:
        copy_disk(template / "disk", directory / "disk")
    spec = MachineSpec(memory_mib=plan.memory_mib, disk_mib=plan.disk_mib if plan.disk else None)
    record = Record(id=ID, spec=spec, digest=plan.image.digest, created="2026-01-01T00:00:00Z")
    ram, state = (memory.from_file(template / name, name) for name in ("memory", "state"))
    try:
        yield Machine(record, replace(plan), directory, memory=ram, state=state)
    finally:
        os.close(ram)
        os.close(state)
        for left in directory.iterdir():
            left.unlink()
        directory.rmdir()


class Held:
    """Recorders that do not start before they are let."""

    def __init__(self, error: MachineError | None = None) -> None:
        self.go = asyncio.Event()
        self._open = Evidence.open
        self._error = error

    async def __call__(self, log: Path, machine: str) -> Evidence:
        await self.go.wait()
        if self._error is not None:
            raise self._error
        return await self._open(log, machine)


async def loaded(machine: Machine) -> None:
    """Its QEMU has everything that it needs, and a moment more to run without being told to."""
    async with asyncio.timeout(60):
        while machine._channel is None:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)


async def status(machine: Machine) -> Any:
    assert machine._qemu is not None
    return (await machine._qemu.execute("query-status"))["status"]


async def test_a_guest_stands_still_until_its_start_is_recorded(
    clone: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    monkeypatch.setattr(Evidence, "open", held)
    starting = asyncio.create_task(clone.start())
    await loaded(clone)
    assert await status(clone) != "running"
    assert not places.log(ID).exists()
    assert not starting.done()
    held.go.set()
    async with asyncio.timeout(60):
        await starting
    assert await status(clone) == "running", "the positive control"
    await clone.stop(force=True)
    kinds = [one["type"] for one in logged(places.log(ID)) if str(one.get("type")).startswith("machine.")]
    assert kinds[0] == "machine.started"


async def test_a_guest_whose_start_cannot_be_recorded_never_runs(
    home: Home, clone: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(MachineError("the recorder does not start: no room", next_step="make room"))
    monkeypatch.setattr(Evidence, "open", held)
    starting = asyncio.create_task(clone.start())
    await loaded(clone)
    assert await status(clone) != "running"
    held.go.set()
    with pytest.raises(MachineError, match="the recorder does not start"):
        async with asyncio.timeout(60):
            await starting
    assert qemus_of(home.path) == []
    assert not places.log(ID).exists()
