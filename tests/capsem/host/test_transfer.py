"""Trees in and out through a monitor's door, by the real agent and the real tar, and a monitor that lies."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.errors import CapsemError, MachineError, NotFoundError
from capsem.host import places
from capsem.host.extract import Extraction
from capsem.host.packing import Packing
from capsem.host.transfer import fetch, send
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/f").write_bytes(os.urandom(3 << 20))
    (root / "a/run").write_text("#!/bin/sh\n")
    (root / "a/run").chmod(0o755)
    (root / ("n" * 200)).write_text("long")
    (root / "l").symlink_to("a/b")
    os.utime(root / "a/run", (7, 7))
    return root


def seen(root: Path) -> dict[str, tuple[int, float, bytes | str]]:
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode, path.lstat().st_mtime // 1,
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
        )
        for path in root.rglob("*")
    }  # fmt: skip


async def test_there_and_back_is_the_same(tmp_path: Path) -> None:
    root, told = project(tmp_path), list[int]()
    async with standing(tmp_path):
        socket = places.monitor_socket(ID)
        await send(socket, str(tmp_path / "in"), Packing(root).pieces(), told.append, user=USER)
        assert seen(tmp_path / "in") == seen(root)
        assert told[-1] > 3 << 20
        with Extraction(tmp_path / "out") as extraction:
            await fetch(socket, str(tmp_path / "in"), extraction.feed, told.append, user=USER)
            extraction.finish()
        assert seen(tmp_path / "out") == seen(root)
        (tmp_path / "in/stale").touch()
        await send(socket, str(tmp_path / "in"), Packing(root).pieces(), user=USER, empty=True)
        assert seen(tmp_path / "in") == seen(root)


async def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 2000
        raise OSError("the disk is gone")

    async with standing(tmp_path) as machine:
        socket = places.monitor_socket(ID)
        with pytest.raises(NotFoundError):
            await fetch(socket, str(tmp_path / "nothing"), lambda _: None, user=USER)
        (tmp_path / "file").touch()
        with pytest.raises(NotFoundError, match="no directory"):
            await fetch(socket, str(tmp_path / "file"), lambda _: None, user=USER)
        with pytest.raises(CapsemError):
            await send(socket, str(tmp_path / "file/x"), Packing(project(tmp_path)).pieces(), user=USER)
        with pytest.raises(MachineError, match="could not unpack"):
            await send(socket, str(tmp_path / "in"), iter([b"no archive at all " * 600]), user=USER)
        with pytest.raises(CapsemError, match="broke off on this host: the disk is gone"):
            await send(socket, str(tmp_path / "in"), broken(), user=USER)
        until = time.monotonic() + 10
        while machine.jobs and time.monotonic() < until:
            await asyncio.sleep(0.02)
        assert machine.jobs == 0


async def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """The kernel's own full disk: what is written to this device never fits."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(bytes(100_000))

    def full(data: bytes) -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(data)

    async with standing(tmp_path):
        with pytest.raises(CapsemError, match="broke off on this host: No space left on device"):
            await fetch(places.monitor_socket(ID), str(tmp_path / "d"), full, user=USER)


async def test_one_who_refuses_what_comes_ends_it(tmp_path: Path) -> None:
    def refuse(_: bytes) -> None:
        raise MachineError("no more", next_step="stop")

    (tmp_path / "d").mkdir()
    (tmp_path / "d/big").write_bytes(bytes(8 << 20))
    async with standing(tmp_path):
        with pytest.raises(MachineError, match="no more"):
            await fetch(places.monitor_socket(ID), str(tmp_path / "d"), refuse, user=USER)
        with Extraction(tmp_path / "again") as extraction:
            await fetch(places.monitor_socket(ID), str(tmp_path / "d"), extraction.feed, user=USER)
            extraction.finish()
        assert (tmp_path / "again/big").stat().st_size == 8 << 20
