"""Where clients come in: one connection, one operation; decided, put on the log, then done.

Refuses a peer of another user, a first message that asks nothing, and more connections than a machine needs.

    async with Door(machine, places.monitor_socket(machine.record.id)):
        await machine.ended.wait()
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

from capsem.errors import CapsemError, ConflictError, WireError
from capsem.host import hold, places
from capsem.host.link import Link
from capsem.host.operation import told
from capsem.host.peer import is_ours
from capsem.processes.monitor.acts import attend, run_command, work_on_file
from capsem.processes.monitor.leases import Leases
from capsem.processes.monitor.machine import Machine
from capsem.wire.frame import Message
from capsem.wire.monitor import (
    Answer,
    Asks,
    Attach,
    Become,
    Commands,
    Copy,
    Deadline,
    Done,
    Exec,
    File,
    Info,
    Lease,
    Listed,
    Result,
    Secrets,
    Stop,
    Suspend,
    Waiting,
    decode_client,
    encode,
)

CONNECTIONS = 128
"""Commands, files and copies at once; the agent has at most 64 jobs. As many again for what the guest cannot hold up:
a guest that answers nothing is still asked about, and stopped."""

# From the machine's end until whoever is still being served is not any more.
_LEAVING_SECONDS = 2.0
_AGAIN_SECONDS = 0.5


class Door:
    """The socket of one monitor.

    Args:
        machine: what it leads to.
        path: where it listens.
        leased: whether the machine ends with a client that says so.
    """

    def __init__(self, machine: Machine, path: Path, *, leased: bool = False) -> None:
        self._machine = machine
        self._leases = Leases(machine, leased=leased)
        self._path = path
        self._server: asyncio.Server | None = None
        self._inside: set[asyncio.Task[None]] = set()
        self._served: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._came, self._path)
        self._path.chmod(0o600)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)
        self._leases.close()
        if self._server is not None:
            self._server.close()
        if self._machine.ended.is_set():
            # It may be started again while those who are slow to read still have their answers from here.
            hold.leave(places.session(self._machine.record.id))
        # Who waits for the end is told of it before we leave.
        if self._inside:
            await asyncio.wait(self._inside, timeout=_LEAVING_SECONDS)
        # Who still has not heard it may never read; what was said to the others goes on its way.
        while self._served:
            for task in self._served:
                task.cancel()
            # Where that ends in an error, who does not read is to be told of it.
            await asyncio.wait(self._served, timeout=_AGAIN_SECONDS)
        if self._inside:
            await asyncio.wait(self._inside)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._inside.add(task)
        link = Link(reader, writer)
        try:
            if not is_ours(writer.get_extra_info("socket")):
                return
            self._served.add(task)
            try:
                await self._serve(link)
            except CapsemError as error:
                await link.send(encode(told(error, getattr(error, "errno", None))))
            finally:
                self._served.discard(task)
            await link.part()
        finally:
            with contextlib.suppress(OSError):
                await link.close()
            self._inside.discard(task)

    async def _serve(self, link: Link) -> None:  # noqa: PLR0912 - a table, one row a case
        crowded = len(self._inside) > CONNECTIONS
        if len(self._inside) > 2 * CONNECTIONS:
            raise _crowded()
        first = await link.receive()
        if first is None:
            return
        if not isinstance(first, Message):
            raise WireError("the first frame is no message", next_step="see docs/formats/machine-monitor.md")
        asked = decode_client(first)
        if crowded and isinstance(asked, Exec | File | Copy | Attach):
            raise _crowded()
        match asked:
            case Info():
                await link.send(encode(self._machine.status()))
            case Stop(force):
                await self._machine.stop(force=force)
                await link.send(encode(Done()))
            case Become(leased):
                await self._machine.become()
                if leased:
                    self._leases.wait_for_one()
                await link.send(encode(Done()))
            case Lease():
                await self._leases.hold(link)
            case Suspend():
                await self._machine.suspend()
                await link.send(encode(Done()))
            case Copy(name, memory):
                async with self._machine.copy(name, memory=memory) as copied:
                    await link.send(encode(copied))
                    # Until the client has what it wants of it.
                    await link.receive()
            case Secrets(values):
                await self._machine.network.give(values)
                await link.send(encode(Done()))
            case Asks(wait_ms):
                await link.send(encode(Waiting(await self._machine.network.asks(wait_ms / 1000))))
            case Answer():
                outcome = await self._machine.network.answer(asked)
                await link.send(encode(Result({"outcome": outcome})))
            case Deadline(after_ms):
                await self._machine.end_after(None if after_ms is None else after_ms / 1000)
                await link.send(encode(Done()))
            case Exec() | Attach() | Commands() | File():
                await self._work(link, asked)
            case _:
                raise WireError("that asks nothing", next_step="see docs/formats/machine-monitor.md")

    async def _work(self, link: Link, asked: Exec | Attach | Commands | File) -> None:
        """What is done in the machine for a client."""
        match asked:
            case Exec():
                await run_command(self._machine, link, asked)
            case Attach():
                await attend(self._machine, link, asked)
            case Commands():
                await link.send(encode(Listed(self._machine.commands.told)))
            case File():
                await work_on_file(self._machine, link, asked)


def _crowded() -> ConflictError:
    return ConflictError(f"{CONNECTIONS} operations run in this machine", next_step="wait for one to end")
