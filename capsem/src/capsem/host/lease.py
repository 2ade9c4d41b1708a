"""A client's side of a machine that is there for it alone: it ends when this process does, however that is.

Refuses a machine that was not made for one client. A plain socket, so that it is nobody's event loop that holds it.

    lease = Lease()
    await lease.take(machine)                # as the service tells of it
    await lease.let_stay()                   # the machine outlives us after all
    await lease.end()                        # or it ends, and has when this returns
    await lease.close()                      # else: it ends, some time
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capsem.errors import MachineError
from capsem.host.link import unanswered
from capsem.host.operation import raised
from capsem.wire.frame import FrameReader, Message
from capsem.wire.monitor import ClientMessage, Done, Failed, Keep, Over, Result, decode_monitor, encode
from capsem.wire.monitor import Lease as Asked

_CHUNK = 1 << 16


class Lease:
    """The lease of one machine; of none until it is taken."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    async def take(self, machine: Mapping[str, Any]) -> None:
        """Have it.

        Raises:
            CapsemError: it was not made for one client, or has ended.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = connection
        try:
            connection.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(connection, str(machine["socket"]))
            except OSError as error:
                raise unanswered(Path(machine["socket"]), error) from error
            await self._ask(Asked())
        except BaseException:
            self.drop()
            raise

    async def let_stay(self) -> None:
        """The machine outlives us; returns when its monitor knows.

        Raises:
            CapsemError: it has ended.
        """
        if self._socket is not None:
            await self._ask(Keep())

    async def _ask(self, asked: ClientMessage) -> None:
        if not isinstance(await self._asked(asked), Done):
            raise MachineError("the machine's monitor has gone", next_step="see capsem list")

    async def _asked(self, asked: ClientMessage) -> Done | Result | None:
        """What the monitor answers; None when it has hung up."""
        assert self._socket is not None
        loop, untrusted = asyncio.get_running_loop(), FrameReader()
        try:
            await loop.sock_sendall(self._socket, encode(asked))
            while data := await loop.sock_recv(self._socket, _CHUNK):
                for frame in untrusted.feed(data):
                    said = decode_monitor(frame) if isinstance(frame, Message) else None
                    if isinstance(said, Done | Result):
                        return said
                    if isinstance(said, Failed):
                        raise raised(said)
        except OSError:
            pass  # as one that has hung up
        return None

    async def end(self) -> str | None:
        """We are done with the machine: returns once it has ended and its log is whole, or its name: then it stays.

        What is left of it on the disk goes right after that: its service sees to it.

        Raises:
            CapsemError: its monitor does not end it.
        """
        said = None if self._socket is None else await self._asked(Over())
        return str(said.value["name"]) if isinstance(said, Result) else None

    async def close(self) -> None:
        """Let go of it."""
        self.drop()

    def drop(self) -> None:
        """Let go of it; in a process that was forked: of what that has of it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
