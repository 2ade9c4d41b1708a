"""The proxy's end of the socket to its monitor: records go out, connections and a person's answers come back.

Refuses answers to what was not asked: then there is no monitor any more that makes sense, and the proxy ends.

    monitor = MonitorLink(handover)
    sock, address = await monitor.dial("example.com", 443, private=False)
    await monitor.noted()                     # what was recorded is on the log
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from capsem.errors import MachineError, WireError
from capsem.host.handover import Handover
from capsem.wire.proxy import (
    Ask,
    Asked,
    Dial,
    Dialled,
    NeedSecret,
    Note,
    Noted,
    Over,
    Record,
    Serve,
    Served,
    encode,
)
from capsule.egress.dialer import AddressError, DialError

T = TypeVar("T")


class MonitorLink:
    """What a session needs of the outside (`capsule.egress.ports`), asked of the monitor."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._last = 0
        self._dials: dict[int, asyncio.Future[tuple[socket.socket, str]]] = {}
        self._notes: dict[int, asyncio.Future[None]] = {}
        self._serves: dict[int, asyncio.Future[socket.socket]] = {}

    @property
    def crowded(self) -> bool:
        """Whether `room` would wait."""
        return self._handover.crowded

    async def room(self) -> None:
        """Waits while the monitor lags behind with the record."""
        await self._handover.room()

    def send(self, message: dict[str, Any]) -> None:
        """What a session says to its supervisor."""
        match message["type"]:
            case "record":
                said: Any = Record(message["entry"])
            case "ask":
                said = Ask({name: value for name, value in message.items() if name != "type"})
            case "asked":
                said = Asked(message["id"], message["outcome"])
            case "need_secret":
                said = NeedSecret(message["name"])
            case other:
                raise ValueError(f"a session said {other!r}")
        self._handover.send(encode(said))

    async def noted(self) -> None:
        """Returns when everything recorded so far is on the log."""
        number, future = self._new(self._notes)
        self._handover.send(encode(Note(number)))
        await future

    async def dial(self, host: str, port: int, *, private: bool) -> tuple[socket.socket, str]:
        """A connected socket, which the monitor opened; it bounds `private` by what the policy says of the host.

        Raises:
            AddressError: no address of the name is allowed.
            DialError: there is no connection.
        """
        number, future = self._new(self._dials)
        self._handover.send(encode(Dial(number, host[:255], port, private=private)))
        sock, address = await future
        return sock, address

    async def serve(self, name: str) -> tuple[int, socket.socket]:
        """An MCP server that the monitor started: its number, for `over`, and its input and output.

        Raises:
            MachineError: it was not started.
        """
        number, future = self._new(self._serves)
        self._handover.send(encode(Serve(number, name)))
        try:
            return number, await future
        except asyncio.CancelledError:
            self.over(number)
            raise

    def over(self, number: int) -> None:
        """Nobody speaks to that server any more."""
        self._handover.send(encode(Over(number)))

    def served(self, said: Served) -> None:
        """The monitor's answer.

        Raises:
            WireError: it was not asked.
        """
        failure = None if said.error is None else MachineError(said.error, next_step="see capsem logs")
        self._given(self._serves, said.id, failure, lambda sock: sock, "a server that was not asked for")

    def _new(self, table: dict[int, asyncio.Future[Any]]) -> tuple[int, asyncio.Future[Any]]:
        self._last += 1
        table[self._last] = future = asyncio.get_running_loop().create_future()
        return self._last, future

    def dialled(self, said: Dialled) -> None:
        """The monitor's answer.

        Raises:
            WireError: it was not asked.
        """
        kind = AddressError if said.forbidden else DialError
        failure = None if said.error is None else kind(said.error)
        address, what = said.address or "", "a connection that was not asked for"
        self._given(self._dials, said.id, failure, lambda sock: (sock, address), what)

    def _given(
        self,
        table: dict[int, asyncio.Future[T]],
        number: int,
        failure: Exception | None,
        came: Callable[[socket.socket], T],
        what: str,
    ) -> None:
        """An answer to what was asked under a number; unless it is a failure, a socket came with it.

        Raises:
            WireError: it was not asked.
        """
        sock = socket.socket(fileno=self._handover.take()) if failure is None else None
        future = table.pop(number, None)
        if future is None or future.done():
            if sock is not None:
                sock.close()  # whoever asked has gone meanwhile
            if future is None:
                raise WireError(what, next_step="report this")
        elif failure is not None:
            future.set_exception(failure)
        elif sock is not None:
            sock.setblocking(False)
            future.set_result(came(sock))

    def marked(self, said: Noted) -> None:
        """The record is that far.

        Raises:
            WireError: it was not asked.
        """
        future = self._notes.pop(said.id, None)
        if future is None:
            raise WireError("an answer to no note", next_step="report this")
        if not future.done():
            future.set_result(None)

    def take_file(self) -> bytes:
        """The content of the file that came."""
        number = self._handover.take()
        try:
            content = bytearray()
            while piece := os.pread(number, 1 << 20, len(content)):
                content += piece
            return bytes(content)
        finally:
            os.close(number)
