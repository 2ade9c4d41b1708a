"""A monitor's machine around the real agent as an ordinary process: everything of a machine but QEMU.

async with standing(home, tmp_path) as machine: ...     # its door is open
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from capsem.host import places
from capsem.processes.monitor.door import Door
from capsem.processes.monitor.evidence import Evidence
from capsem.processes.monitor.machine import Machine
from capsem.vm.lifecycle import State
from capsem.vm.network import NetworkSpec
from capsem.vm.plan import work_out
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec, RuleText
from capsem.wire.monitor import Exec
from tests.capsem.agent import running_agent
from tests.capsem.vm.test_plan import FACTS, IMAGE

USER = os.getuid()
ID = "m-00000001"


def shell(line: str, **more: Any) -> Exec:
    return Exec(argv=("/bin/sh", "-c", line), user=USER, cwd="/", **more)


@contextlib.asynccontextmanager
async def standing(
    tmp_path: Path, rules: str = "", network: NetworkSpec | None = None
) -> AsyncIterator[Machine]:
    """A machine whose door is open; `rules` is the text of a file of rules."""
    places.prepare()
    spec = MachineSpec(
        env={"FROM_SPEC": "yes"}, rules=(RuleText("rules.yaml", rules),) if rules else (), network=network
    )
    record = Record(id=ID, spec=spec, digest=IMAGE.digest, created="2026-01-01T00:00:00Z")
    machine = Machine(record, work_out(spec, IMAGE, FACTS), tmp_path, memory=None, state=None)
    sockets = tmp_path / "ports"
    sockets.mkdir()
    async with running_agent(sockets) as channel:
        machine._evidence = await Evidence.open(places.log(ID), ID)
        machine._channel = channel
        machine._life.state = State.RUNNING
        async with Door(machine, places.monitor_socket(ID)):
            try:
                yield machine
            finally:
                await machine.network.close()
                await machine.evidence.close()
