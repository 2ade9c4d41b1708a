from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from capsem.processes.monitor.console import keep

pytestmark = pytest.mark.asyncio


async def test_a_console_that_never_stops_fills_no_disk(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    keeping = asyncio.create_task(keep(ours, tmp_path / "c", limit=1000))
    await asyncio.to_thread(theirs.sendall, b"first\n" + b"x" * 500_000)
    theirs.close()
    await keeping
    kept = (tmp_path / "c").read_bytes()
    assert kept.startswith(b"first\nxxx")
    assert len(kept) < 1100
    assert kept.endswith(b"more than is kept]\n")
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o600
    ours.close()


@pytest.mark.parametrize("place", ["/dev/full", "/nonexistent/console.log"])
async def test_where_there_is_no_room_the_guest_does_not_wait(place: str) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    keeping = asyncio.create_task(keep(ours, Path(place)))
    async with asyncio.timeout(60):
        await asyncio.to_thread(theirs.sendall, b"x" * 5_000_000)
    theirs.close()
    await keeping
    ours.close()


async def test_a_second_life_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.sendall(text)
        theirs.close()
        await keep(ours, tmp_path / "c", limit=1000)
        ours.close()
    assert (tmp_path / "c").read_bytes() == b"one\ntwo\n"
