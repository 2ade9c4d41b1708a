"""Drives mitmproxy's protocol layers over asyncio: one inspected connection and what it opens.

Needs Python 3.12 and mitmproxy 12. The layers are machines without I/O: events go in, commands come out. mitmproxy's
own driver runs a task for every hook and every read; this one answers hooks at once when it can, reads through
protocols, sends once what one event gave rise to, and withholds flow control instead of keeping bytes. Refuses to go
on after a fault inside a layer: every connection is closed.

    driver = Driver(services, client=("10.0.0.1", 40000), local=("198.18.0.1", 443))
    driver.start(sock_transport, root_layer, first_bytes)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer

from capsule.egress.guarding import Guard
from capsule.egress.pressure import Pressure

logger = logging.getLogger(__name__)

HIGH_WATER = 1 << 20
"""Bytes that wait for a peer before the other side is held back."""
SOON = 0.005
"""Seconds that what is read at once should take; a program that sends what is dear to look at is read in less."""
LEAST, MOST = 4 << 10, 256 << 10
"""Bytes that are read at once; it begins with an eighth of the most."""
OPEN_AT_ONCE = 64
"""Upstream connections that one inspected connection may have."""

Dial = Callable[[Connection], Awaitable[tuple[asyncio.Transport, "Wire"]]]
Hook = Callable[[commands.StartHook], Awaitable[None] | None]


def options(driver: Driver) -> SimpleNamespace:
    """What mitmproxy's layers read from their options, all fixed; `driver` rides along for ours."""
    return SimpleNamespace(
        driver=driver,
        body_size_limit=None,
        connection_strategy="lazy",
        http2_ping_keepalive=0,
        http_connect_send_host_header=True,
        keep_host_header=True,
        normalize_outbound_headers=True,
        proxy_debug=False,
        proxyauth=None,
        rawtcp=False,
        store_streamed_bodies=False,
        stream_large_bodies=None,
        tcp_timeout=600,
        validate_inbound_headers=True,
        websocket=False,
    )


class Settle(events.Event):
    """Room again: HTTP/2 connections acknowledge what they withheld."""


class Wire(asyncio.Protocol):
    """One socket of a driver."""

    def __init__(self, driver: Driver, connection: Connection) -> None:
        self.driver = driver
        self.connection = connection
        self.transport: asyncio.Transport | None = None
        self.paused = False
        self.full = False
        self.ended = False
        self.outgoing: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the transport."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)
        self.transport = transport
        self._read_at_once(MOST // 8)

    def _read_at_once(self, size: int) -> None:
        setattr(self.transport, "max_size", size)  # noqa: B010 - of asyncio's sockets, and of no other transport

    def data_received(self, data: bytes) -> None:
        """Bytes go to the layers at once; how long that takes says how many may come the next time."""
        began = time.thread_time()  # what it cost, not how busy the host is
        self.driver.feed(events.DataReceived(self.connection, data))
        took, size = time.thread_time() - began, len(data)
        if took > 4 * SOON:
            self._read_at_once(max(LEAST, int(size * SOON / took)))
        elif took < SOON and size >= getattr(self.transport, "max_size", MOST):
            self._read_at_once(min(MOST, 2 * size))

    def eof_received(self) -> bool:
        """The peer has said all; it may still listen."""
        self._end(self.connection.state & ~ConnectionState.CAN_READ)
        return self.connection.state is not ConnectionState.CLOSED

    def connection_lost(self, _: Exception | None) -> None:
        """The socket is gone."""
        self._end(ConnectionState.CLOSED)
        self.driver.lost(self)

    def _end(self, state: ConnectionState) -> None:
        self.connection.state = state
        if not self.ended:
            self.ended = True
            self.driver.feed(events.ConnectionClosed(self.connection))

    def pause_writing(self) -> None:
        """The peer is slower than the other side."""
        self.full = True
        self.driver.balance()

    def resume_writing(self) -> None:
        """It caught up."""
        self.full = False
        self.driver.balance()

    def flush(self) -> None:
        """Writes what is to go out."""
        if self.outgoing:
            data = self.outgoing[0] if len(self.outgoing) == 1 else b"".join(self.outgoing)
            self.outgoing.clear()
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(data)

    def hold(self, held: bool) -> None:
        """Stops or goes on reading."""
        if held != self.paused and self.transport is not None and not self.transport.is_closing():
            self.paused = held
            (self.transport.pause_reading if held else self.transport.resume_reading)()


class Driver:
    """One inspected connection: its layers, its sockets, its end.

    Attributes:
        context: mitmproxy's context of the connection.
        pressure: who has to wait.
        heads: HTTP/1 ends that wait for the rest of a head, and since when.
        active: monotonic seconds of the last byte.
        guard: takes values of secrets out of what the upstream says.
    """

    def __init__(
        self,
        *,
        peer: tuple[str, int],
        local: tuple[str, int],
        hook: Hook,
        dial: Dial,
        ended: Callable[[], None],
    ) -> None:
        client = Client(
            peername=peer, sockname=local, state=ConnectionState.OPEN, timestamp_start=time.time()
        )
        self.context = Context(client, options(self))  # type: ignore[arg-type]
        self.pressure = Pressure(self)
        self.heads: dict[Connection, float] = {}
        self.active = time.monotonic()
        self.dead: str | None = None
        self._hook = hook
        self._dial = dial
        self._ended = ended
        self.guard = Guard(None, "")
        self._wires: dict[Connection, Wire] = {}
        self._dialling: dict[Connection, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._queue: deque[events.Event] = deque()
        self._touched: dict[Wire, None] = {}
        self._running = False
        self._layer: Layer | None = None
        self._room = asyncio.Semaphore(OPEN_AT_ONCE)

    def start(self, wire: Wire, layer: Layer, first: bytes) -> None:
        """Begins: the client's wire, the outermost layer and the bytes that were read already."""
        self._wires[wire.connection] = wire
        self._layer = layer
        self.feed(events.Start())
        if first and self.dead is None:
            wire.data_received(first)

    def wire(self, connection: Connection) -> Wire | None:
        """The open socket of a connection."""
        return self._wires.get(connection)

    def feed(self, event: events.Event) -> None:
        """Gives the layers an event and does what they answer; an event during an event waits its turn."""
        self._queue.append(event)
        if self._running or self._layer is None or self.dead is not None:
            return
        self._running = True
        self.active = time.monotonic()
        try:
            while self._queue:
                for command in self._layer.handle_event(self._queue.popleft()):
                    self._obey(command)
        except Exception:
            logger.exception("a layer failed; its connections are closed")
            self.dead = "a layer failed"
        finally:
            self._running = False
        self._flush()
        if self.dead is not None:
            self.abort(self.dead)
        else:
            self.balance()

    def _flush(self) -> None:
        """Sends what one event gave rise to, in one piece a socket."""
        while self._touched:
            self._touched.popitem()[0].flush()

    def _obey(self, command: commands.Command) -> None:
        if isinstance(command, commands.SendData):
            wire = self._wires.get(command.connection)
            if wire is not None:
                wire.outgoing.append(command.data)
                self._touched[wire] = None
        elif isinstance(command, commands.StartHook):
            waiting = self._hook(command)
            if waiting is None:
                if command.blocking:
                    self._queue.append(events.HookCompleted(command))
            else:
                self._spawn(self._wait(waiting, command))
        elif isinstance(command, commands.OpenConnection):
            self._dialling[command.connection] = self._spawn(self._open(command))
        elif isinstance(command, commands.CloseTcpConnection):
            self._close(command.connection, half=command.half_close)
        elif isinstance(command, commands.CloseConnection):
            self._close(command.connection, half=False)
        elif isinstance(command, commands.RequestWakeup):
            self._wake(command)
        elif not isinstance(command, commands.Log):
            raise TypeError(f"a command of an unknown kind: {type(command).__name__}")

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _wait(self, waiting: Awaitable[None], command: commands.StartHook) -> None:
        try:
            await waiting
        except Exception:
            logger.exception("a decision failed; its connection is closed")
            self.abort("a decision failed")
            return
        if command.blocking:
            self.feed(events.HookCompleted(command))

    async def _open(self, command: commands.OpenConnection) -> None:
        connection = command.connection
        error: str | None = None
        try:
            async with self._room:
                _, wire = await self._dial(connection)
        except OSError as failure:
            error = str(failure) or type(failure).__name__
        finally:
            self._dialling.pop(connection, None)
        if error is None and self.dead is None:
            assert wire.transport is not None
            connection.state = ConnectionState.OPEN
            connection.timestamp_start = time.time()
            connection.peername = wire.transport.get_extra_info("peername")
            connection.sockname = wire.transport.get_extra_info("sockname")
            self._wires[connection] = wire
        elif error is None:
            assert wire.transport is not None
            wire.transport.abort()
            return
        self.feed(events.OpenConnectionCompleted(command, error))

    def _wake(self, command: commands.RequestWakeup) -> None:
        def wake() -> None:
            self._timers.discard(handle)
            self.feed(events.Wakeup(command))

        handle = asyncio.get_running_loop().call_later(command.delay, wake)
        self._timers.add(handle)

    def _close(self, connection: Connection, *, half: bool) -> None:
        wire = self._wires.get(connection)
        if wire is None or wire.transport is None:
            if (dialling := self._dialling.pop(connection, None)) is not None:
                dialling.cancel()
            return
        wire.flush()
        if half and connection.state & ConnectionState.CAN_WRITE:
            connection.state &= ~ConnectionState.CAN_WRITE
            if wire.transport.can_write_eof() and not wire.transport.is_closing():
                wire.transport.write_eof()
            if connection.state is not ConnectionState.CLOSED:
                return
        connection.state = ConnectionState.CLOSED
        wire.ended = True
        wire.transport.close()

    def lost(self, wire: Wire) -> None:
        """A socket ended; with the client's ends everything."""
        self._wires.pop(wire.connection, None)
        self.pressure.forget(wire.connection)
        self.heads.pop(wire.connection, None)
        if wire.connection is self.context.client:
            self.abort("the program closed the connection")
        else:
            self.balance()

    def abort(self, reason: str) -> None:
        """Closes every socket, once."""
        if self._layer is None:
            return
        self.dead = self.dead or reason
        self._layer = None
        self._queue.clear()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for timer in self._timers:
            timer.cancel()
        for wire in list(self._wires.values()):
            wire.ended = True
            if wire.transport is not None:
                if wire.connection is self.context.client and reason != "a layer failed":
                    wire.transport.close()
                else:
                    wire.transport.abort()
        self._wires.clear()
        self._ended()

    def balance(self) -> None:
        """Holds back or lets go on whoever sends, by how much waits for the others."""
        if self._running or self._layer is None:
            return
        if self.pressure.balance(list(self._wires.values())):
            self.feed(Settle())
