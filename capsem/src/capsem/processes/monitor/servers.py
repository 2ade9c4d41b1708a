"""The MCP servers of one machine: programs of the host, each under a Capsule policy, one for each stream that asks.

Refuses names that are not declared and more than a few at once, and starts none whose start cannot be recorded. What
a server reads and writes is the proxy's to read; here it is only started and ended.

    servers = Servers(record.spec.mcp, directory, evidence.write)
    sock = await servers.start(7, "files")        # its standard input and output
    servers.over(7)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from capsem.errors import MachineError
from capsem.host.allowance import Allowance
from capsem.host.confinement import serving
from capsem.host.qemu import die_with
from capsem.processes.monitor.console import keep
from capsem.vm.mcp import McpServer

AT_ONCE = 8
STARTS, EVERY = 30.0, 2.0
"""Starts at once, and seconds in which one more may be."""
LEAVE = 5.0
"""Seconds for a server to end by itself once nobody speaks to it; after as many more it is killed."""
END = 2.0
"""The same when the machine ends."""
RecordEntry = Callable[[str, dict[str, Any]], Awaitable[None]]


class Servers:
    """One machine's.

    Args:
        servers: those that are declared; what is at an address is not started.
        directory: of the machine.
        write: puts an entry on its log.
    """

    def __init__(self, servers: Sequence[McpServer], directory: Path, write: RecordEntry) -> None:
        self.declared = {server.name: server for server in servers if server.command}
        self._directory = directory
        self._write = write
        self._running: dict[int, asyncio.Task[None]] = {}
        self._leaving: dict[int, asyncio.Event] = {}
        self._slots = set(range(AT_ONCE))
        self._starts = Allowance(1 / EVERY, STARTS, time.monotonic())
        self.pids: dict[int, int] = {}
        """Of the programs that confine those that run, by number."""

    async def start(self, number: int, untrusted_name: str) -> socket.socket:
        """Start one; our end of its input and output.

        Raises:
            MachineError: it is not declared, too many run, it cannot be started or not be recorded.
        """
        server = self.declared.get(untrusted_name)
        if server is None:
            raise MachineError(f"no MCP server {untrusted_name} is declared", next_step="see --mcp")
        if not self._slots or number in self._running:
            raise MachineError(f"{AT_ONCE} MCP servers run in this machine", next_step="end one")
        if not self._starts.take(time.monotonic()):
            raise MachineError("too many MCP servers were started in a short time", next_step="wait")
        slot = min(self._slots)
        self._slots.discard(slot)
        try:
            place = {"id": f"mcp.servers {server.name}", "file": server.file, "line": server.line}
            told = {"server": server.name, "command": list(server.command), "policy": server.policy}
            decision = {"action": "allow", "by": "grant", "rule": place}
            await self._write("machine.mcp_started", {**told, "decision": decision})
            sock, process, errors = await self._launched(server, slot)
        except BaseException:
            self._slots.add(slot)
            raise
        self.pids[number] = process.pid
        self._leaving[number] = asyncio.Event()
        self._running[number] = asyncio.create_task(self._attend(number, slot, server, process, errors))
        return sock

    async def _launched(
        self, server: McpServer, slot: int
    ) -> tuple[socket.socket, asyncio.subprocess.Process, socket.socket]:
        ours, theirs = socket.socketpair()
        errors, said = socket.socketpair()
        errors.setblocking(False)
        log = self._directory / f"mcp-{slot}.capsule.log"
        try:
            process = await asyncio.create_subprocess_exec(
                *serving(log, server.policy, server.command), stdin=theirs.fileno(), stdout=theirs.fileno(),
                stderr=said.fileno(), preexec_fn=die_with(os.getpid()), start_new_session=True, cwd=server.directory,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            errors.close()
            why = f"the MCP server {server.name} does not start: {error.strerror or error}"
            raise MachineError(why, next_step=f"see {server.file}:{server.line}") from error
        finally:
            theirs.close()
            said.close()
        return ours, process, errors

    async def _attend(
        self, number: int, slot: int, server: McpServer, process: asyncio.subprocess.Process, errors: socket.socket
    ) -> None:  # fmt: skip
        keeping = asyncio.create_task(keep(errors, self._directory / "mcp.log"))
        leaving = asyncio.create_task(self._leave(number, process))
        try:
            code = await process.wait()
            with contextlib.suppress(MachineError):
                await self._write("machine.mcp_ended", {"server": server.name, "code": code})
        finally:
            leaving.cancel()
            for how in (signal.SIGTERM, signal.SIGKILL):
                if process.returncode is None:
                    _signalled(process, how)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), END)
            keeping.cancel()
            await asyncio.gather(keeping, leaving, return_exceptions=True)
            errors.close()
            del self._running[number], self._leaving[number], self.pids[number]
            self._slots.add(slot)

    async def _leave(self, number: int, process: asyncio.subprocess.Process) -> None:
        await self._leaving[number].wait()
        # Its input has ended; a server that does not mind is asked, then killed.
        for how in (signal.SIGTERM, signal.SIGKILL):
            await asyncio.sleep(LEAVE)
            _signalled(process, how)

    def over(self, number: int) -> None:
        """Nobody speaks to it any more; one that has ended already is no error."""
        if (leaving := self._leaving.get(number)) is not None:
            leaving.set()

    async def close(self) -> None:
        """End all of them."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _signalled(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
