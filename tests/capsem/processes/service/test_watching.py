from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from capsem.host import hold, places
from capsem.processes.service.watching import Watching

pytestmark = [pytest.mark.asyncio]

HOLDS = """
import sys
from pathlib import Path
from capsem.host import hold
hold.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


async def test_the_end_of_a_monitor_is_told_once_and_only_then(capsem_home: Path) -> None:
    places.prepare()
    directory = places.session("m-00000001")
    directory.mkdir()
    told: list[str] = []
    came = asyncio.Event()

    async def ended(machine: str) -> None:
        told.append(machine)
        came.set()

    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        watching = Watching(ended)
        watching.begin("m-00000001")
        watching.begin("m-00000001")
        await asyncio.sleep(0.2)
        assert told == []
        process.kill()
        async with asyncio.timeout(30):
            await came.wait()
    assert hold.holder(directory) is None
    assert told == ["m-00000001"]


async def test_one_that_has_gone_already_is_told_at_once(capsem_home: Path) -> None:
    places.prepare()
    came = asyncio.Event()

    async def ended(machine: str) -> None:
        assert machine == "m-00000002"
        came.set()

    Watching(ended).begin("m-00000002")
    async with asyncio.timeout(30):
        await came.wait()
