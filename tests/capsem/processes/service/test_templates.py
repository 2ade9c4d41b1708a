from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import memory, places
from capsem.processes.service.templates import Templates
from capsem.vm.plan import Board, MachinePlan, work_out
from capsem.vm.spec import MachineSpec
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]
PLAN = work_out(MachineSpec(), IMAGE, FACTS)


class Boots:
    """Writes what a monitor writes."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, plan: MachinePlan, directory: Path) -> None:
        self.count += 1
        await asyncio.sleep(0.01)
        (directory / "memory").write_bytes(b"memory")
        (directory / "state").write_bytes(b"state")
        if plan.disk:
            (directory / "disk").write_bytes(b"disk")


async def test_a_template_is_booted_once_and_loaded_once() -> None:
    places.prepare()
    boots = Boots()
    templates = Templates(boots)
    found = await asyncio.gather(*(templates.get(PLAN) for _ in range(5)))
    assert boots.count == 1
    assert len(set(found)) == 1
    assert os.pread(found[0].memory, 10, 0) == b"memory"
    assert memory.sealed(found[0].memory)
    assert memory.sealed(found[0].state)
    assert found[0].disk is None
    templates.close()
    again = Templates(boots)
    await again.get(PLAN)
    assert boots.count == 1, "another service takes what is there"
    other = await again.get(work_out(MachineSpec(disk_mib=64), IMAGE, FACTS))
    assert boots.count == 2
    assert other.disk is not None
    again.close()


async def test_what_was_not_finished_is_made_again() -> None:
    places.prepare()
    boots = Boots()
    left = places.templates() / PLAN.key
    for directory in (left, left.with_name(left.name + ".new")):
        directory.mkdir()
        (directory / "memory").write_bytes(b"half")
    templates = Templates(boots)
    found = await templates.get(PLAN)
    assert os.pread(found.memory, 10, 0) == b"memory"
    templates.close()


async def test_a_boot_that_fails_leaves_no_template() -> None:
    places.prepare()

    async def fails(plan: MachinePlan, directory: Path) -> None:
        del plan, directory
        raise MachineError("it does not boot", next_step="verify the image")

    templates = Templates(fails)
    for _ in range(2):
        with pytest.raises(MachineError):
            await templates.get(PLAN)
    assert not (places.templates() / PLAN.key).exists()


class NotOn(Boots):
    """A host on which some boards do not boot."""

    def __init__(self, *boards: Board) -> None:
        super().__init__()
        self._boards = boards

    async def __call__(self, plan: MachinePlan, directory: Path) -> None:
        if plan.board in self._boards:
            self.count += 1
            raise MachineError(f"{plan.board} does not boot", next_step="none")
        await super().__call__(plan, directory)


async def test_where_the_small_board_does_not_boot_the_large_one_is_taken_and_kept() -> None:
    places.prepare()
    boots = NotOn(Board.MICROVM)
    templates = Templates(boots)
    plan, template = await templates.get_on_some_board(PLAN)
    assert plan.board is Board.Q35
    assert template.directory.name == plan.key != PLAN.key
    assert boots.count == 2
    assert (await templates.get_on_some_board(PLAN))[0] == plan
    assert boots.count == 2, "it is not tried again"
    templates.close()


async def test_where_none_boots_the_first_reason_is_told() -> None:
    places.prepare()
    templates = Templates(NotOn(Board.MICROVM, Board.Q35))
    with pytest.raises(MachineError, match="microvm does not boot"):
        await templates.get_on_some_board(PLAN)
    templates = Templates(NotOn())
    assert (await templates.get_on_some_board(PLAN))[0] == PLAN
    templates.close()
