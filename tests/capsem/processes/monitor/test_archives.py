"""Directories are decided and recorded as files are, and a guest without end is left when its client has gone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from capsem.errors import MachineError, RefusedError
from capsem.host import places
from capsem.host.link import connect
from capsem.host.transfer import fetch, send
from capsem.wire.monitor import File, encode
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]

RULES = """version: 1
rules:
  - {id: reads, on: file, when: 'file.operation == "read" && file.path.startsWith("/ok")', action: allow}
"""


async def test_rules_decide_before_anything_is_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    async with standing(tmp_path, RULES):
        with pytest.raises(RefusedError):
            await fetch(places.monitor_socket(ID), str(tmp_path / "d"), lambda _: None, user=USER)
        with pytest.raises(RefusedError):
            await send(places.monitor_socket(ID), str(tmp_path / "new"), iter([bytes(1024)]), user=USER)
    assert not (tmp_path / "new").exists()
    lines = [json.loads(line) for line in places.log(ID).read_text().splitlines() if '"machine.file"' in line]
    assert [(one["operation"], one["decision"]["action"]) for one in lines] == [
        ("pack", "block"),
        ("unpack", "block"),
    ]


async def test_a_machine_without_tar_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsem.processes.monitor.archives._ENV", {"PATH": "/nowhere"})
    (tmp_path / "d").mkdir()
    async with standing(tmp_path):
        with pytest.raises(MachineError, match="no tar"):
            await fetch(places.monitor_socket(ID), str(tmp_path / "d"), lambda _: None, user=USER)


async def test_an_archive_without_end_ends_with_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest's tar that never stops: the monitor reads on only while somebody takes it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "d").mkdir()
    fake = tmp_path / "bin/tar"
    fake.write_text("#!/bin/sh\nexec /bin/cat /dev/zero\n")
    fake.chmod(0o755)
    monkeypatch.setattr("capsem.processes.monitor.archives._ENV", {"PATH": f"{tmp_path}/bin"})
    async with standing(tmp_path) as machine:
        link = await connect(places.monitor_socket(ID))
        await link.send(encode(File("pack", str(tmp_path / "d"), user=USER)))
        assert await link.receive() is not None, "the control: it flows"
        assert machine.jobs == 1
        await link.close()
        until = time.monotonic() + 10
        while machine.jobs and time.monotonic() < until:
            await asyncio.sleep(0.05)
        assert machine.jobs == 0
        await asyncio.sleep(0.2)
        left = subprocess.run(
            ["pgrep", "-f", f"cat /dev/zero.*{os.getpid()}"], capture_output=True, check=False
        )
        assert left.stdout == b""
