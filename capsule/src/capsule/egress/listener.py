"""Accepts what connects to a session's listeners and knows where it wanted to go.

Every address is local inside, so `getsockname()` of an accepted socket is the original destination. The supervisor
tells who connected in a `flow` frame, a moment before or after; `Flows` matches it. Refuses a notice that is too old
to be of this connection.

    listener = Listener(sock, on_connection=session.connection)
    listener.start()
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable

from capsule.egress.frames import Flow

FLOW_WAIT = 0.2
"""Seconds after the connection that its flow notice is waited for."""
FRESH = 2.0
"""Seconds that a notice may come before its connection is accepted."""
_KEPT = 4096
_TURN = 128

Accepted = Callable[[socket.socket, tuple[str, int], tuple[str, int]], None]
"""The connected socket, its source, its original destination."""


class Listener:
    """One port of one session."""

    def __init__(self, sock: socket.socket, on_connection: Accepted) -> None:
        self._sock = sock
        self._on_connection = on_connection
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begins to accept."""
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """No more connections: the kernel refuses them from here on."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(_TURN):
            try:
                sock, source = self._sock.accept()
            except BlockingIOError:
                return
            except OSError:
                return  # it was reset before it was accepted, or descriptors are short: the next turn tries again
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                target = sock.getsockname()
            except OSError:
                sock.close()
                continue
            self._on_connection(sock, (source[0], source[1]), (target[0], target[1]))


class Flows:
    """Who made which connection, and who asks for names, as far as the supervisor has said."""

    def __init__(self) -> None:
        self._askers: OrderedDict[str, Flow] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], tuple[float, Flow]] = OrderedDict()
        self._waiting: dict[tuple[str, str], asyncio.Future[Flow]] = {}

    def add(self, flow: Flow) -> None:
        """A notice came."""
        if flow.target.endswith(":53"):
            self._askers[flow.source] = flow
            self._askers.move_to_end(flow.source)
            if len(self._askers) > _KEPT:
                self._askers.popitem(last=False)
            return
        key = (flow.source, flow.target)
        waiting = self._waiting.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(flow)
            return
        self._known[key] = (time.monotonic(), flow)
        self._known.move_to_end(key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def asker(self, source: tuple[str, int]) -> Flow | None:
        """Who asks for names from there; a socket that is not connected is known by its port alone."""
        return self._askers.get(f"{source[0]}:{source[1]}") or self._askers.get(f"0.0.0.0:{source[1]}")

    def expect(self, source: tuple[str, int], target: tuple[str, int]) -> asyncio.Future[Flow]:
        """The notice of a connection that was just accepted; it is cancelled when none comes in time.

        A notice that is older than `FRESH` was of an earlier connection from the same port.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Flow] = loop.create_future()
        key = (f"{source[0]}:{source[1]}", f"{target[0]}:{target[1]}")
        known = self._known.pop(key, None)
        if known is not None and time.monotonic() - known[0] <= FRESH:
            future.set_result(known[1])
            return future
        self._waiting[key] = future

        def late() -> None:
            if self._waiting.get(key) is future:
                del self._waiting[key]
            future.cancel()

        timer = loop.call_later(FLOW_WAIT, late)
        future.add_done_callback(lambda _: timer.cancel())
        return future
