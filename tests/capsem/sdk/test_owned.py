"""What this program holds, against the door of a monitor; only QEMU is missing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from capsem.errors import ConflictError, MachineError
from capsem.host import places
from capsem.sdk import owned
from tests.capsem.processes.monitor.standing import ID, standing
from tests.capsem.processes.monitor.test_leases import door, stopped, until

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_it_ends_when_it_is_released_and_not_before(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        opened, at = door(machine)
        async with opened:
            await owned.hold({**at, "id": ID})
            await asyncio.sleep(0.2)
            assert not stopped(machine)
            owned.release(ID)
            await until(lambda: stopped(machine))
            machine.ended.set()
    owned.release(ID)


async def test_what_is_let_stay_is_no_longer_this_program_s(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        opened, at = door(machine)
        async with opened:
            await owned.hold({**at, "id": ID})
            await owned.let_stay(ID)
            await owned.let_stay(ID)
            assert owned._HELD == {}
            await asyncio.sleep(0.2)
            assert not stopped(machine)


async def test_a_child_process_holds_nothing_of_its_parent_s(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        opened, at = door(machine)
        async with opened:
            await owned.hold({**at, "id": ID})
            reading, writing = os.pipe()
            if (child := os.fork()) == 0:
                # It lives on while its parent lets go.
                held = len(owned._HELD)
                os.close(writing)
                os.read(reading, 1)
                os._exit(held)
            os.close(reading)
            owned.release(ID)
            await until(lambda: stopped(machine))
            os.close(writing)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            machine.ended.set()


async def test_one_that_was_made_for_nobody_or_has_gone_is_not_held(tmp_path: Path) -> None:
    at = {"id": ID, "socket": str(places.monitor_socket(ID))}
    async with standing(tmp_path):
        with pytest.raises(ConflictError, match="not made for one client"):
            await owned.hold(at)
    with pytest.raises(MachineError, match="is gone"):
        await owned.hold(at)
    assert owned._HELD == {}
