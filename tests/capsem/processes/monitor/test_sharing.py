"""A live share around the real process and the real agent: the guest's kernel alone is simulated."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from capsem.errors import MachineError, UsageError
from capsem.processes.monitor import sharing
from capsem.processes.monitor.sharing import Sharing
from capsem.wire import fuse
from capsem.wire.fuse import Op
from tests.capsem.agent import running_agent
from tests.capsem.processes.share.kernel import INIT, request

pytestmark = pytest.mark.needs("root", "userns", "landlock")


class Log:
    """Entries, as they would go on a machine's log."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self._came = asyncio.Event()

    async def write(self, kind: str, fields: dict[str, Any]) -> None:
        self.entries.append((kind, fields))
        self._came.set()

    async def of(self, kind: str) -> dict[str, Any]:
        """The first of a kind, once it is there."""
        async with asyncio.timeout(60):
            while not (found := [fields for one, fields in self.entries if one == kind]):
                self._came.clear()
                await self._came.wait()
        return found[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    (place / "a").write_bytes(b"inside")
    return place


def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """What the guest runs to mount: a program that says so, and stays."""
    program = tmp_path / "mounts"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sharing, "AGENT", str(program))


@contextlib.asynccontextmanager
async def shared(root: Path, tmp_path: Path) -> AsyncIterator[tuple[Sharing, socket.socket, Log]]:
    ports = tmp_path / "ports"
    ports.mkdir()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(60)
    log = Log()
    one = Sharing(tmp_path, log.write)
    async with running_agent(ports) as channel:
        try:
            await one.start(str(root), ours, channel)
            yield one, theirs, log
        finally:
            await one.close()
            ours.close()
            theirs.close()


def ask(port: socket.socket, op: int, node: int, body: bytes) -> tuple[int, bytes]:
    """Errno and body of the answer."""
    port.sendall(request(op, node, body))
    size, error, _ = fuse.ANSWER.unpack(port.recv(fuse.ANSWER.size, socket.MSG_WAITALL))
    rest = port.recv(size - fuse.ANSWER.size, socket.MSG_WAITALL) if size > fuse.ANSWER.size else b""
    return -error, rest


def test_a_share_is_recorded_with_what_it_refuses(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(tmp_path, monkeypatch, "echo mounted; exec sleep 1000")

    async def scene() -> None:
        async with shared(root, tmp_path) as (one, port, log):
            told = await log.of("machine.shared")
            assert (told["directory"], told["access"]) == (str(root), "live")
            assert told["limits"]["files"] == 100_000
            assert ask(port, Op.INIT, 0, INIT)[0] == 0
            error, answer = ask(
                port, Op.CREATE, 1, fuse.CREATE.pack(os.O_RDWR, 0o100644, 0o22, 0) + b"made\0"
            )
            assert error == 0
            handle = int.from_bytes(answer[128:136], "little")
            assert ask(port, Op.WRITE, 1, fuse.WRITE.pack(handle, 0, 4, 0, 0, 0, 0) + b"here")[0] == 0
            assert (root / "made").read_bytes() == b"here"
            assert ask(port, Op.MKNOD, 1, fuse.MKNOD.pack(0o020666, 0x0103, 0, 0) + b"device\0")[0] == 1
            assert (await log.of("machine.share_refused"))["path"] == "device"
            pid = one.pid
            assert pid is not None
        assert one.pid is None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(scene())
    assert sorted(os.listdir(root)) == ["a", "made"]


def test_a_share_that_ends_before_its_machine_is_on_the_log(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(tmp_path, monkeypatch, "echo mounted; exec sleep 1000")

    async def scene() -> None:
        async with shared(root, tmp_path) as (one, port, log):
            port.sendall(b"\xff" * 40)
            assert (await log.of("machine.share_lost"))["reason"] == "its process on the host ended"
            assert port.recv(10) == b"", "the guest's calls fail from then on"
            assert one.pid is not None

    asyncio.run(scene())


def test_a_guest_that_does_not_mount_is_no_machine(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(tmp_path, monkeypatch, "echo '/dev/fuse: no such file' >&2; exit 1")

    async def scene() -> None:
        with pytest.raises(MachineError, match="/dev/fuse: no such file") as error:
            async with shared(root, tmp_path):
                raise AssertionError("it was mounted")
        assert "image build" in (error.value.next_step or "")

    asyncio.run(scene())


def test_a_directory_that_may_not_be_shared_is_refused_by_the_monitor_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(tmp_path, monkeypatch, "echo mounted; exec sleep 1000")

    async def scene() -> None:
        with pytest.raises(UsageError, match="/etc is not"):
            async with shared(Path("/etc"), tmp_path):
                raise AssertionError("it was mounted")

    asyncio.run(scene())


def test_the_share_dies_with_its_monitor(root: Path, tmp_path: Path) -> None:
    """Killed as hard as can be, a monitor leaves no share behind."""
    from tests.capsem.processes.share.test_serving import children

    code = f"""
import asyncio, socket
from pathlib import Path
from capsem.host.sharing import told
from capsem.processes.monitor.sharing import Sharing
from capsem.workspace.live import Limits
async def main():
    ours, theirs = socket.socketpair()
    one = Sharing(Path({str(tmp_path)!r}), None)
    await one._serve(told(Path({str(root)!r}), Limits()), ours)
    print(one.pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""
    import subprocess
    import sys
    import time

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout is not None
        pid = int(monitor.stdout.readline())
        below = [pid, *children(pid)]
        assert len(below) > 1
        monitor.send_signal(signal.SIGKILL)
        monitor.wait()
    until = time.monotonic() + 60
    while left := [one for one in below if Path(f"/proc/{one}").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.02)
