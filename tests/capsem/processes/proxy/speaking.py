"""A program of the guest and a server, both played by the test, with a proxy between them.

async with relayed(rules=…) as (stand, program):
    server = await served(stand)
    await program.say(call(1, "read"))
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from capsem.wire import guest
from capsem.wire.frame import Credit, Data, End, FrameReader, Message, Reset
from capsem.wire.frame import encode as encode_frame
from tests.capsem.processes.proxy.standing import Standing

RULES = """
version: 1
rules:
  - id: no-deleting
    on: mcp
    when: mcp.method == "tools/call" && mcp.tool == "delete"
    action: block
    reason: nothing is deleted here
  - id: of-that-host
    on: mcp
    when: mcp.server == "mcp.example" && mcp.method == "tools/call" && mcp.tool == "pay"
    action: block
  - id: no-sampling
    on: mcp
    when: mcp.method.startsWith("sampling/")
    action: block
  - id: ask-first
    on: mcp
    when: mcp.method == "tools/call" && mcp.tool == "send"
    action: ask
    reason: look at it
"""
OPEN: list[socket.socket] = []
"""Ends of servers, closed with their stream."""


def call(identity: object, tool: str, **arguments: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": {"name": tool, "arguments": arguments},
    }  # fmt: skip


def cancelled(identity: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": identity}}


class Program:
    """A program of the guest on one stream of port 5003."""

    def __init__(self, stand: Standing, number: int) -> None:
        self.stand, self.number = stand, number
        self._held, self._taken = b"", 0
        self.ended: str | None = None

    async def say(self, *messages: object) -> None:
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in messages]
        whole = b"".join(lines)
        for at in range(0, len(whole), 65536):
            await send(self.stand, encode_frame(Data(self.number, whole[at : at + 65536])))
            await asyncio.sleep(0)

    async def end(self) -> None:
        await send(self.stand, encode_frame(End(self.number)))

    async def heard(self) -> Any:
        """The next message; None at the end."""
        while b"\n" not in self._held:
            if self.ended is not None:
                return None
            frame = await self.stand.mcp_frames.get()  # type: ignore[attr-defined]
            if isinstance(frame, Data):
                self._held += frame.content
                await send(self.stand, encode_frame(Credit(self.number, len(frame.content))))
            elif isinstance(frame, End | Reset):
                self.ended = type(frame).__name__
        line, _, self._held = self._held.partition(b"\n")
        return json.loads(line)


async def send(stand: Standing, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(stand.mcp, data)


class Server:
    """The server's end of one stream."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._held = b""

    async def heard(self) -> Any:
        while b"\n" not in self._held:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
            if not data:
                return None
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return json.loads(line)

    async def say(self, *messages: object) -> None:
        for one in messages:
            line = one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n"
            await asyncio.get_running_loop().sock_sendall(self.sock, line)


@asynccontextmanager
async def relayed(name: str = "files", *, rules: str = "") -> AsyncIterator[tuple[Standing, Program]]:
    async with asyncio.timeout(60), spoken(Standing(rules=rules, servers=("files",)), name) as found:
        yield found


@asynccontextmanager
async def spoken(standing: Standing, name: str) -> AsyncIterator[tuple[Standing, Program]]:
    """A program that has named its server."""
    async with standing as stand:
        frames: asyncio.Queue[Any] = asyncio.Queue()
        stand.mcp_frames = frames  # type: ignore[attr-defined]
        let_in: asyncio.Queue[int] = asyncio.Queue()
        stand.let_in = let_in  # type: ignore[attr-defined]

        async def read() -> None:
            reader = FrameReader()
            while data := await asyncio.get_running_loop().sock_recv(stand.mcp, 1 << 16):
                for frame in reader.feed(data):
                    if isinstance(frame, Data | End | Reset):
                        frames.put_nowait(frame)
                    elif isinstance(frame, Message):
                        said = guest.decode_host(frame)
                        assert isinstance(said, guest.Opened)
                        let_in.put_nowait(said.stream)

        reading = asyncio.create_task(read())
        program = await opened(stand, 1)
        await program.say(name.encode() + b"\n")
        try:
            yield stand, program
        finally:
            reading.cancel()
            while not stand.upstream.empty():
                OPEN.append(stand.upstream.get_nowait())
            while OPEN:
                OPEN.pop().close()


async def opened(stand: Standing, number: int) -> Program:
    await send(stand, guest.encode(guest.Open(number, "mcp", None, None, 42, 1000, "/usr/bin/agent")))
    assert await stand.let_in.get() == number  # type: ignore[attr-defined]
    return Program(stand, number)


async def served(stand: Standing) -> Server:
    sock = await stand.upstream.get()
    OPEN.append(sock)
    return Server(sock)


def told(stand: Standing) -> list[dict[str, Any]]:
    return [entry for entry in stand.entries if entry["type"] == "egress.mcp"]
