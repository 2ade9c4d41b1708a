"""The guest's streams, each between the guest's port and the session: bytes of connections, questions of names.

Refuses what is neither; a connection that the session ends without a word is reset inside, so that its program learns
at once. Streams beyond a rate are refused unseen and counted on the log: a guest that floods its port fills no disk.

    carrying = Carrying(session, monitor, relay)
    carrying.take(stream)
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from typing import Any

from capsem.errors import CapsemError
from capsem.host.allowance import Allowance
from capsem.host.flow import StreamResetError
from capsem.host.jobs import GuestStream
from capsem.processes.proxy.guest import GuestSession, reported
from capsem.processes.proxy.monitor import MonitorLink
from capsem.processes.proxy.relaying import Relay
from capsem.wire import guest
from capsule.egress.verdict import Verdict

RATE = 200.0
"""Streams a second that are looked at for longer than a moment."""
BURST = 1000.0
ODD_RATE, ODD_BURST = 1.0, 20.0
"""Of streams to what is no place, of which an agent opens none; those over it are counted only."""
SHOWN = 64
"""Characters of what is no place that are recorded."""
QUESTION = 4096
"""Bytes of a question."""
PATIENCE = 10.0
"""Seconds that a question may take to come."""
_CHUNK = 1 << 16


class Carrying:
    """All streams of one guest."""

    def __init__(self, session: GuestSession, monitor: MonitorLink, relay: Relay) -> None:
        self._session = session
        self._relay = relay
        self._monitor = monitor
        self._tasks: set[asyncio.Task[None]] = set()
        moment = time.monotonic()
        self._streams, self._odd = Allowance(RATE, BURST, moment), Allowance(ODD_RATE, ODD_BURST, moment)
        self._flooded = 0

    def take(self, stream: GuestStream) -> None:
        """One stream that the guest opened."""
        if not self._streams.take(time.monotonic()):
            self._flooded += 1
            stream.refuse("too many at once")
            return
        task = asyncio.get_running_loop().create_task(self._carry(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def tick(self) -> None:
        """Once a second: what was refused unseen is counted on the log."""
        if self._flooded:
            count, self._flooded = self._flooded, 0
            verdict = Verdict("block", "protocol", f"more than {RATE:.0f} streams a second")
            self._session.recorder.write("egress.flood", {"count": count, "decision": verdict.entry()})

    async def _carry(self, stream: GuestStream) -> None:
        try:
            match stream.port, stream.opened.kind:
                case guest.NETWORK, "tcp":
                    await self._connection(stream)
                case guest.NETWORK, "dns":
                    await self._question(stream)
                case guest.MCP, "mcp":
                    await self._relay.carry(stream)
                case _:
                    stream.refuse("this port has other streams")
        except (StreamResetError, CapsemError, OSError, ValueError, TimeoutError):
            stream.reset()

    async def _question(self, stream: GuestStream) -> None:
        stream.accept()
        async with asyncio.timeout(PATIENCE):
            question = await stream.incoming.read_all(QUESTION)
        answer = self._session.question(question, stream.opened)
        await self._monitor.noted()
        if answer is None:
            stream.reset()
            return
        await stream.outgoing.write(answer)
        stream.outgoing.end()

    async def _connection(self, stream: GuestStream) -> None:
        opened = stream.opened
        try:
            address = str(ipaddress.IPv4Address(opened.address or ""))
        except ValueError:
            self._no_place(stream)
            return
        if opened.port is None:
            self._no_place(stream)
            return
        source, target = ("guest", stream.number), (address, opened.port)
        stream.accept()
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            theirs.setblocking(False)
            self._session.made_by(source, target, opened)
            self._session.connection(theirs, source, target)
            await _between(stream, ours)

    def _no_place(self, stream: GuestStream) -> None:
        opened = stream.opened
        stream.refuse("no IPv4 address and port")
        if not self._odd.take(time.monotonic()):
            self._flooded += 1
            return
        said: dict[str, Any] = {"address": (opened.address or "")[:SHOWN], "port": opened.port or 0}
        verdict = Verdict("block", "protocol", "the guest's agent names no IPv4 address and port")
        fields = {**reported(opened.program, opened.pid), "tcp": said, "decision": verdict.entry()}
        self._session.recorder.write("egress.tcp", fields)

    def close(self) -> None:
        """Ends what goes on."""
        for task in self._tasks:
            task.cancel()


async def _between(stream: GuestStream, ours: socket.socket) -> None:
    """Moves bytes both ways until both have ended, or one failed."""
    loop = asyncio.get_running_loop()

    async def out() -> None:
        how = socket.SHUT_RDWR
        try:
            async for chunk in stream.incoming:
                await loop.sock_sendall(ours, chunk)
            how = socket.SHUT_WR
        finally:
            # A guest that gave the stream up waits for nothing more: the session is not held by it.
            with contextlib.suppress(OSError):  # the session may have ended first
                ours.shutdown(how)

    async def back() -> None:
        said = False
        while data := await loop.sock_recv(ours, _CHUNK):
            said = True
            await stream.outgoing.write(data)
        if said or stream.incoming.over:
            stream.outgoing.end()
        else:
            stream.reset()

    async with asyncio.TaskGroup() as group:
        group.create_task(_quiet(stream, out()))
        group.create_task(_quiet(stream, back()))


async def _quiet(stream: GuestStream, way: Any) -> None:
    """One way; when it breaks, so does the stream."""
    try:
        await way
    except (StreamResetError, CapsemError, OSError):
        stream.reset()
