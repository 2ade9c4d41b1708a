from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from capsem.errors import ConflictError
from capsem.host import places
from capsem.host.settings import put
from capsem.processes.service import room as subject
from capsem.processes.service.room import Room
from capsem.vm.plan import work_out
from capsem.vm.spec import MachineSpec
from tests.capsem.host.test_usage import written
from tests.capsem.processes.service.test_registry import left
from tests.capsem.vm.test_plan import FACTS, IMAGE

MIB = 1 << 20
pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_many_at_once_stay_within_the_limit_and_give_back_what_they_did_not_take() -> None:
    places.prepare()
    put("limits.home", "10M")
    room, let_in, begun = Room(), asyncio.Event(), 0

    async def one() -> None:
        nonlocal begun
        async with room.taken("a branch", 3 * MIB):
            begun += 1
            await let_in.wait()

    tasks = [asyncio.create_task(one()) for _ in range(8)]
    done: set[asyncio.Task[None]] = set()
    while len(done) + begun < 8:
        await asyncio.sleep(0.01)
        done = {task for task in tasks if task.done()}
    assert begun == 3
    assert all(isinstance(task.exception(), ConflictError) for task in done)
    let_in.set()
    await asyncio.gather(*(task for task in tasks if task not in done))
    async with room.taken("a branch", 8 * MIB):
        pass


async def test_how_much_a_machine_and_a_copy_may_take(tmp_path: Path) -> None:
    left("m-0000000a", "build")
    disk = written(places.session("m-0000000a") / "disk", 2 * MIB)
    assert subject.of_copy("m-0000000a") == disk.stat().st_blocks * 512
    plan = work_out(MachineSpec(memory_mib=96, disk_mib=64), IMAGE, FACTS)
    assert subject.of_new(plan) == 96 * MIB
    directory = places.templates() / plan.key
    disk = written(directory / "disk", MIB)
    (directory / "complete").touch()
    assert subject.of_new(plan) == disk.stat().st_blocks * 512
    del tmp_path
