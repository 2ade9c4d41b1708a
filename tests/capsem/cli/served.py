"""The command line against the real service and a monitor's door with the real agent; only QEMU is missing.

async with served(home, tmp_path): done = await capsem("exec", ID, "--", "true")
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from capsem.host import places
from capsem.processes.monitor.machine import Machine
from capsem.vm.lifecycle import State
from capsem.vm.network import NetworkSpec
from capsem.vm.record import Record, encode
from capsem.vm.spec import MachineSpec
from tests.capsem.processes.monitor.standing import ID, standing


@contextlib.asynccontextmanager
async def served(
    tmp_path: Path, name: str = "build", network: NetworkSpec | None = None
) -> AsyncIterator[Machine]:
    """A machine that an earlier service left running."""
    async with standing(tmp_path, network=network) as machine:
        places.session(ID).mkdir(mode=0o700)
        spec = MachineSpec(name=name)
        record = Record(id=ID, spec=spec, digest="d", created="2026-01-01T00:00:00Z", state=State.RUNNING)
        (places.session(ID) / "session.json").write_bytes(encode(record))
        yield machine


async def capsem(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the program as a person does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "capsem.cli", *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate(given)
    return subprocess.CompletedProcess(words, process.returncode or 0, out, err)
