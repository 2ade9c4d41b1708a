"""What cannot be done with a machine leaves it as it was. Whole machines are in tests/vm."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import ConflictError, MachineError
from capsem.processes.monitor.machine import Machine
from capsem.vm.plan import work_out
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec
from tests.capsem.processes.monitor.standing import ID
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_one_that_does_not_run_is_neither_suspended_nor_copied(tmp_path: Path) -> None:
    record = Record(id=ID, spec=MachineSpec(), digest="d", created="2026-01-01T00:00:00Z")
    machine = Machine(record, work_out(MachineSpec(), IMAGE, FACTS), tmp_path, memory=None, state=None)
    with pytest.raises(ConflictError):
        await machine.suspend()
    with pytest.raises(MachineError, match="the machine is created"):
        async with machine.copy("x", memory=False):
            pass
    assert list(tmp_path.iterdir()) == []
    assert machine.fields() == {"machine": ID}
