"""The driver: events in turn, hooks that answer at once or later, sockets that end in every way."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import commands, events, layer

from capsule.egress.interception import Driver, Wire

pytestmark = pytest.mark.asyncio


@dataclass
class Asked(commands.StartHook):
    """The test layer's question."""

    data: bytes


class Relay(layer.Layer):
    """Asks about what the client says, opens the server at the first word, passes everything on."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        client, server = self.context.client, self.context.server
        if isinstance(event, events.DataReceived) and event.connection is client:
            if event.data == b"fault":
                raise RuntimeError("a fault in a layer")
            if event.data == b"close":
                yield commands.CloseConnection(client)
                return
            yield Asked(event.data)
            if not server.connected:
                error = yield commands.OpenConnection(server)
                if error:
                    yield commands.SendData(client, b"error: " + error.encode())
                    return
            yield commands.SendData(server, event.data)
        elif isinstance(event, events.DataReceived):
            yield commands.SendData(client, event.data)
            yield commands.SendData(client, b"!")
        elif isinstance(event, events.ConnectionClosed) and event.connection is client:
            yield commands.CloseTcpConnection(server, half_close=True)
        elif isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(client)


class Stage:
    """A driver between two socket pairs."""

    def __init__(self, hook: Callable[[Any], Awaitable[None] | None], failure: OSError | None = None) -> None:
        self.program, self._inside = socket.socketpair()
        self.server, self._outside = socket.socketpair()
        for sock in (self.program, self._inside, self.server, self._outside):
            sock.setblocking(False)
        self.ended = asyncio.Event()
        self.failure = failure
        self.driver = Driver(
            peer=("127.0.0.1", 1), local=("127.0.0.2", 2), hook=hook, dial=self.dial, ended=self.ended.set
        )
        self.driver.context.server.address = ("a.example", 443)

    async def dial(self, connection: Connection) -> tuple[asyncio.Transport, Wire]:
        assert isinstance(connection, Server)
        if self.failure is not None:
            raise self.failure
        wire = Wire(self.driver, connection)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: wire, sock=self._outside)
        return transport, wire

    async def start(self, first: bytes = b"") -> None:
        wire = Wire(self.driver, self.driver.context.client)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: wire, self._inside)
        self.driver.start(wire, Relay(self.driver.context), first)

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.program, data)

    async def hear(self, sock: socket.socket) -> bytes:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(sock, 65536)

    def close(self) -> None:
        self.driver.abort("the test is over")
        for sock in (self.program, self.server, self._outside, self._inside):
            sock.close()


async def test_first_bytes_and_what_follows() -> None:
    asked: list[bytes] = []
    stage = Stage(lambda hook: asked.append(hook.data))
    await stage.start(b"one")
    assert await stage.hear(stage.server) == b"one"
    await stage.say(b"two")
    assert await stage.hear(stage.server) == b"two"
    await asyncio.get_running_loop().sock_sendall(stage.server, b"answer")
    assert await stage.hear(stage.program) == b"answer!", "sent in one piece"
    assert asked == [b"one", b"two"]
    stage.close()


async def test_a_hook_that_takes_its_time_keeps_the_order() -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    stage = Stage(lambda hook: wait())
    await stage.start(b"one ")
    await stage.say(b"two ")
    await asyncio.sleep(0.05)
    stage.server.setblocking(False)
    with pytest.raises(BlockingIOError):
        stage.server.recv(10)
    gate.set()
    got = b""
    while len(got) < 8:
        got += await stage.hear(stage.server)
    assert got == b"one two "
    stage.close()


async def test_a_hook_that_fails_closes_everything() -> None:
    async def fail() -> None:
        raise RuntimeError("no decision")

    stage = Stage(lambda hook: fail())
    await stage.start(b"one")
    await asyncio.wait_for(stage.ended.wait(), 5)
    assert await stage.hear(stage.program) == b""
    stage.server.setblocking(False)
    with pytest.raises(BlockingIOError):
        stage.server.recv(10)
    stage.close()


async def test_a_fault_in_a_layer_closes_everything() -> None:
    stage = Stage(lambda hook: None)
    await stage.start(b"one")
    assert await stage.hear(stage.server) == b"one"
    await stage.say(b"fault")
    await asyncio.wait_for(stage.ended.wait(), 5)
    assert stage.driver.dead == "a layer failed"
    assert await stage.hear(stage.server) == b""
    stage.close()


async def test_a_dial_that_fails_is_told() -> None:
    stage = Stage(lambda hook: None, ConnectionRefusedError(111, "Connection refused"))
    await stage.start(b"one")
    assert (await stage.hear(stage.program)).startswith(b"error: ")
    stage.close()


async def test_a_half_close_is_passed_on_and_the_answer_comes() -> None:
    stage = Stage(lambda hook: None)
    await stage.start(b"one")
    assert await stage.hear(stage.server) == b"one"
    stage.program.shutdown(socket.SHUT_WR)
    assert await stage.hear(stage.server) == b""
    await asyncio.get_running_loop().sock_sendall(stage.server, b"late")
    assert await stage.hear(stage.program) == b"late!"
    stage.server.close()
    assert await stage.hear(stage.program) == b""
    await asyncio.wait_for(stage.ended.wait(), 5)
    stage.close()


async def test_a_close_by_the_layer() -> None:
    stage = Stage(lambda hook: None)
    await stage.start()
    await stage.say(b"close")
    assert await stage.hear(stage.program) == b""
    await asyncio.wait_for(stage.ended.wait(), 5)
    stage.close()


@pytest.mark.parametrize("dear", [False, True])
async def test_what_is_dear_to_look_at_is_read_in_smaller_pieces(dear: bool) -> None:
    """So that one program does not keep all others waiting."""
    sizes: list[int] = []

    def look(hook: Any) -> None:
        sizes.append(len(hook.data))
        until = time.thread_time() + len(hook.data) / 1e6
        while dear and time.thread_time() < until:
            pass

    stage = Stage(look)
    stage.program.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    await stage.start()
    sent = asyncio.create_task(stage.say(b"y" * (2 << 20)))
    got = 0
    while got < 2 << 20:
        got += len(await stage.hear(stage.server))
    await sent
    assert max(sizes) <= 256 << 10
    if dear:
        assert max(sizes[3:]) <= 32 << 10
    else:
        assert max(sizes) > 32 << 10, "the control: what is cheap is read in larger ones"
    stage.close()
