"""MCP servers as programs of their own, confined: what they can do, how they end, how many there are."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from capsem.errors import MachineError
from capsem.host.allowance import Allowance
from capsem.processes.monitor import servers
from capsem.processes.monitor.servers import Servers
from capsem.vm.mcp import McpServer
from tests.capsem.serverpolicy import server_policy
from tests.vm.processes import until_gone

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.needs("userns", "landlock", "seccomp-notify"),
    pytest.mark.timeout(120),
]
ECHO = "import sys\nfor line in sys.stdin: sys.stdout.write(line); sys.stdout.flush()"
STUBBORN = (
    "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('here', flush=True)\ntime.sleep(3600)"
)
LOOK = """
import json, os, socket, sys
def tried(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
def dial(): socket.create_connection(("127.0.0.1", PORT), 3).close()
def write(): open("TARGET", "w").write("x")
def read(): open("HOME/secret").read()
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
told = {"dial": tried(dial), "write": tried(write), "read": tried(read), "uid": os.getuid(), "env": dict(os.environ),
        "seccomp": status["Seccomp"], "privileges": status["NoNewPrivs"], "capabilities": status["CapEff"],
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1], "own": open(OWN).read()}
print(json.dumps(told), flush=True)
sys.stdin.read()
"""


class Standing:
    """Servers of one machine, and its log as a list."""

    def __init__(self, directory: Path, **programs: str) -> None:
        self.directory = directory
        self.room = directory / "server"
        self.room.mkdir()
        (self.room / "own.txt").write_text("mine")
        self.entries: list[dict[str, Any]] = []
        self.broken = False
        self.policy = str(server_policy(directory))
        declared = [
            McpServer(name, (sys.executable, "-I", "-c", code), self.policy, str(self.room), "/mcp.yaml", 3)
            for name, code in programs.items()
        ]
        missing = McpServer("missing", ("/nowhere/program",), "readonly", str(self.room), "/mcp.yaml", 9)
        self.servers = Servers([*declared, missing], directory, self._write)
        self.open: list[socket.socket] = []

    async def _write(self, kind: str, fields: dict[str, Any]) -> None:
        if self.broken:
            raise MachineError("the disk is full", next_step="")
        self.entries.append({"type": kind, **fields})

    async def start(self, number: int, name: str) -> socket.socket:
        sock = await self.servers.start(number, name)
        sock.setblocking(False)
        self.open.append(sock)
        return sock

    async def ended(self, count: int = 1) -> list[dict[str, Any]]:
        async with asyncio.timeout(60):
            while len(found := [one for one in self.entries if one["type"] == "machine.mcp_ended"]) < count:
                await asyncio.sleep(0.02)
        return found


@pytest_asyncio.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Standing]:
    made = Standing(tmp_path, echo=ECHO, stubborn=STUBBORN)
    yield made
    await made.servers.close()
    for sock in made.open:
        sock.close()


async def line(sock: socket.socket) -> bytes:
    found = b""
    async with asyncio.timeout(60):
        while not found.endswith(b"\n"):
            data = await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
            assert data, "it has ended"
            found += data
    return found


def inside(pid: int) -> list[int]:
    """Every process below one."""
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(below for child in children for below in inside(child))]


async def test_a_server_runs_recorded_before_and_ends_with_its_input(stand: Standing) -> None:
    sock = await stand.start(1, "echo")
    [started] = stand.entries
    assert (started["type"], started["server"], started["policy"]) == (
        "machine.mcp_started",
        "echo",
        stand.policy,
    )
    assert started["decision"]["rule"] == {"id": "mcp.servers echo", "file": "/mcp.yaml", "line": 3}
    await asyncio.get_running_loop().sock_sendall(sock, b"hello\n")
    assert await line(sock) == b"hello\n"
    sock.shutdown(socket.SHUT_WR)
    assert (await stand.ended())[0]["code"] == 0
    assert await asyncio.get_running_loop().sock_recv(sock, 10) == b""


async def test_a_server_is_confined_by_its_policy(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    home = Path.home()
    target = tmp_path / "written"
    code = LOOK.replace("PORT", str(listener.getsockname()[1])).replace("TARGET", str(target))
    code = code.replace("HOME", str(home)).replace("OWN", "'own.txt'")
    stand = Standing(tmp_path, look=code)
    os.environ["SERVER_TOKEN"] = "not-for-servers"
    try:
        told = json.loads(await line(await stand.start(1, "look")))
        pid = stand.servers.pids[1]
        assert told["own"] == "mine", "control: it reads where it runs"
        assert told["dial"] != "done"
        assert told["write"] != "done"
        assert told["read"] != "done"
        assert not target.exists()
        assert told["uid"] == os.getuid()
        assert (told["seccomp"], told["privileges"]) == ("2", "1")
        assert told["capabilities"].strip("0") == ""
        assert told["descriptors"] == [0, 1, 2]
        assert "SERVER_TOKEN" not in told["env"]
        assert "not-for-servers" not in json.dumps(told["env"])
        # The same, looked at from outside.
        below = inside(pid)
        program = below[-1]
        assert Path(f"/proc/{program}/cmdline").read_bytes().startswith(sys.executable.encode())
        for space in ("net", "user", "mnt", "pid", "ipc"):
            own = Path(f"/proc/self/ns/{space}").readlink()
            assert Path(f"/proc/{program}/ns/{space}").readlink() != own, space
        # Control: the same acts, here, have their effect.
        with socket.create_connection(listener.getsockname(), 3):
            target.write_text("x")
    finally:
        del os.environ["SERVER_TOKEN"]
        await stand.servers.close()
        for sock in (*stand.open, listener):
            sock.close()
    for one in below:
        until_gone(one)


async def test_a_server_that_minds_nothing_is_killed(
    stand: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "LEAVE", 0.3)
    sock = await stand.start(1, "stubborn")
    assert await line(sock) == b"here\n"
    below = inside(stand.servers.pids[1])
    assert below
    stand.servers.over(1)
    await stand.ended()
    for one in below:
        until_gone(one)
    stand.servers.over(1)  # once more is no error


async def test_there_are_only_so_many_and_their_places_come_back(
    stand: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    socks = [await stand.start(number, "echo") for number in range(1, servers.AT_ONCE + 1)]
    with pytest.raises(MachineError, match="8 MCP servers run"):
        await stand.start(100, "echo")
    socks[0].shutdown(socket.SHUT_WR)
    await stand.ended()
    async with asyncio.timeout(60):
        while len(stand.servers.pids) >= servers.AT_ONCE:
            await asyncio.sleep(0.02)
    sock = await stand.start(101, "echo")
    await asyncio.get_running_loop().sock_sendall(sock, b"again\n")
    assert await line(sock) == b"again\n"
    socks[1].shutdown(socket.SHUT_WR)
    await stand.ended(2)
    stand.servers._starts = Allowance(1e-9, 0.5, time.monotonic())
    async with asyncio.timeout(60):
        while len(stand.servers.pids) >= servers.AT_ONCE:
            await asyncio.sleep(0.02)
    with pytest.raises(MachineError, match="in a short time"):
        await stand.start(102, "echo")


async def test_what_is_not_declared_or_not_recorded_does_not_start(stand: Standing) -> None:
    with pytest.raises(MachineError, match="no MCP server other"):
        await stand.start(1, "other")
    stand.broken = True
    with pytest.raises(MachineError, match="disk is full"):
        await stand.start(2, "echo")
    assert stand.servers.pids == {}
    stand.broken = False
    await stand.start(3, "echo")


async def test_a_program_that_is_not_there_ends_at_once_with_its_reason_in_a_file(stand: Standing) -> None:
    sock = await stand.start(1, "missing")
    assert (await stand.ended())[0]["code"] == 127
    assert await asyncio.get_running_loop().sock_recv(sock, 10) == b""
    assert "/nowhere/program" in (stand.directory / "mcp.log").read_text()
