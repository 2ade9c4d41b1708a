from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from capsem.errors import MachineError
from capsem.host import places
from capsem.processes.service.nursery import Nursery
from capsem.wire.nursery import Begin
from tests.vm.processes import until_gone

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


@pytest_asyncio.fixture
async def nursery() -> AsyncIterator[Nursery]:
    places.prepare()
    found = Nursery()
    yield found
    pid = found.pid
    found.close()
    if pid is not None:
        until_gone(pid)


async def test_what_a_monitor_says_went_wrong_is_raised_as_it_was(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text("{}")
    with pytest.raises(MachineError, match="no record of a machine"):
        await nursery.run(Begin(session=str(tmp_path)), tmp_path / "monitor.log")
    assert "no record of a machine" in (tmp_path / "monitor.log").read_text()


async def test_a_monitor_that_dies_without_a_word_is_told_with_its_last_line(
    nursery: Nursery, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(MachineError, match=r"before it was ready: .*FileNotFoundError"):
        await nursery.run(Begin(session=str(tmp_path / "none")), tmp_path / "monitor.log")


async def test_one_that_was_killed_is_replaced(nursery: Nursery, tmp_path: Path) -> None:
    await nursery.start()
    first = nursery.pid
    assert first is not None
    await nursery.start()
    assert nursery.pid == first, "one at a time"
    os.kill(first, signal.SIGKILL)
    until_gone(first)
    (tmp_path / "session.json").write_text("{}")
    with pytest.raises(MachineError, match="no record of a machine"):
        await nursery.run(Begin(session=str(tmp_path)), tmp_path / "monitor.log")
    assert nursery.pid not in {None, first}
