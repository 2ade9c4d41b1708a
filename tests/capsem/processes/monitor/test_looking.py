from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from capsem.errors import MachineError, RefusedError
from capsem.host import places
from capsem.host.operation import Output, begin
from capsem.processes.monitor import looking
from capsem.wire.guest import Ready
from capsem.wire.monitor import File
from tests.capsem.processes.monitor.standing import ID, USER, standing
from tests.capsem.processes.monitor.test_acts import entries

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]
RULES = """
version: 1
rules:
  - {id: look, on: file, when: 'file.operation == "read" && file.path.startsWith("/tmp/")', action: allow}
"""


async def first(path: str) -> bytes:
    operation = await begin(places.monitor_socket(ID), File("watch", path, user=USER))
    try:
        async for said in operation:
            assert isinstance(said, Output)
            return said.content
        raise AssertionError
    finally:
        await operation.close()


async def test_a_watch_is_decided_as_reading_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "AGENT", str(Path(sys.prefix, "bin/capsem-agent")))
    async with standing(tmp_path, RULES):
        assert b"watching" in await first(str(tmp_path))
        with pytest.raises(RefusedError):
            await first("/usr")
    allowed, refused = entries()
    assert (allowed["operation"], allowed["target"], allowed["decision"]["action"]) == (
        "watch", str(tmp_path), "allow",
    )  # fmt: skip
    assert refused["decision"]["action"] == "block"


async def test_one_that_ends_its_output_and_runs_on_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "agent"
    program.write_text("#!/bin/sh\nexec >&-\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(looking, "AGENT", str(program))
    monkeypatch.setattr(looking, "KILL_SECONDS", 0.5, raising=False)
    async with standing(tmp_path):
        async with asyncio.timeout(10):
            with pytest.raises(MachineError, match="did not say why"):
                await first(str(tmp_path))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("echo why >&2; exit 3", "why"),
        ("exit 3", "exit 3"),
        ("echo why >&2; kill -9 $$", "why"),
        ("kill -9 $$", "signal 9"),
    ],
)
async def test_it_is_told_why_nothing_more_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    program = tmp_path / "agent"
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    monkeypatch.setattr(looking, "AGENT", str(program))
    async with standing(tmp_path):
        with pytest.raises(MachineError, match=f"any more: {said};"):
            await first(str(tmp_path))


async def test_the_agent_of_an_older_image_is_not_asked(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        ready = machine.channel._ready
        assert ready is not None
        told = ready.result()
        old = Ready(told.version, told.agent, told.boot_id, told.kernel, ("exec", "files"))
        machine.channel._ready = _done(old)
        for asked, what in (
            (File("watch", "/"), "watch"), (File("rename", "/a", to="/b"), "rename"),
            (File("list", "/", after="a"), "list so many names"),
        ):  # fmt: skip
            operation = await begin(places.monitor_socket(ID), asked)
            with pytest.raises(MachineError, match=f"too old to {what}"):
                _ = [said async for said in operation]
            await operation.close()
        machine.channel._ready = ready
    assert entries() == []


def _done(value: Ready) -> asyncio.Future[Ready]:
    future: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future
