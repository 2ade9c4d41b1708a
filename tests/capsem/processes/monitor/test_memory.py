"""Where a machine's memory comes from and goes to. Whole machines, whose QEMU is read, are in tests/vm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import kept
from capsem.host import memory as memories
from capsem.processes.monitor.memory import Memory, whole
from capsem.vm.plan import work_out
from capsem.vm.spec import MachineSpec
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = pytest.mark.asyncio
PLAN = work_out(MachineSpec(memory_mib=128), IMAGE, FACTS)
SIZE = 128 << 20


async def test_what_starts_from_a_template_leaves_it_as_it_is() -> None:
    file, state = memories.blank("t", SIZE), memories.blank("t")
    os.pwrite(file, b"template", 0)
    os.write(state, b"state")
    memory = Memory.of_template(file, state)
    assert not memory.shared
    room = await memory.room()
    assert os.pread(room, 8, 0) == b"template"
    memory.close()
    assert whole(state) == b"state", "both stay the caller's"
    for one in (room, file, state):
        os.close(one)


async def test_what_boots_writes_to_memory_of_its_own() -> None:
    memory = Memory.empty(PLAN)
    assert (memory.shared, memory.state) == (True, None)
    assert os.fstat(memory.file).st_size == SIZE
    memory.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(memory.file)
    memory.close()


async def test_what_was_kept_is_gone_on_with(tmp_path: Path) -> None:
    file = memories.blank("t", SIZE)
    os.pwrite(file, b"kept", 4096)
    place = tmp_path / "suspended"
    target = os.open(place, os.O_RDWR | os.O_CREAT)
    kept.write(target, b"state", file)
    os.close(target)
    memory = Memory.kept_in(place, PLAN)
    assert memory.shared
    assert memory.state is not None
    assert whole(memory.state) == b"state"
    await memory.filled()
    await memory.filled()
    assert os.pread(memory.file, 4, 4096) == b"kept"
    memory.close()
    place.write_bytes(b"of another version")
    with pytest.raises(MachineError, match="not of this version"):
        Memory.kept_in(place, PLAN)
    os.close(file)
