"""One thing asked of a machine's monitor: a command, a file, how it is, its end. The client's side.

Refuses an answer that is not of the documented form, and raises what the monitor says went wrong as the error it was.

    operation = await begin(socket_path, Exec(argv=("ls",)))
    async for piece in operation:            # Started | Output | Exited
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from capsem import errors
from capsem.errors import CapsemError, MachineError, WireError
from capsem.host.link import Link, connect
from capsem.wire.frame import DATA_LIMIT, Credit, Data, End, Message
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import (
    ERRORS,
    INPUT,
    WINDOW,
    ClientMessage,
    Copied,
    Detach,
    Done,
    Exec,
    Exited,
    Failed,
    File,
    Listed,
    MonitorMessage,
    Resize,
    Result,
    Signal,
    Started,
    Status,
    Waiting,
    decode_monitor,
    encode,
    refusal,
)

T = TypeVar("T", bound=MonitorMessage)
_LAST = Exited | Result | Done | Status | Copied | Waiting | Listed
READ_LIMIT = 256 << 20
"""Bytes of a file that are read into memory."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a command wrote, or a file's content. `errors`: to standard error."""

    content: bytes
    errors: bool = False


def raised(failed: Failed) -> CapsemError:
    """The error that a monitor or the service told of, as an exception of its class."""
    kind = getattr(errors, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, CapsemError)):
        kind = MachineError
    error = kind(failed.message, next_step=failed.next_step)
    error.add_note(failed.errno or "")
    return error


def told(error: CapsemError, errno: str | None = None) -> Failed:
    """An error as it is told to a client."""
    return Failed(type(error).__name__, error.message, error.next_step, errno)


class Operation:
    """One operation that has begun. Iterate it for what comes; closing it ends the command."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._room = WINDOW
        self._credited = asyncio.Event()
        self.over = False

    async def __aiter__(self) -> AsyncGenerator[Output | MonitorMessage]:
        """What the monitor says, until its last word.

        Raises:
            CapsemError: it could not be done.
        """
        while True:
            frame = await self._link.receive()
            match frame:
                case None:
                    self._finish()
                    raise MachineError("the machine's monitor has gone", next_step="see capsem list")
                case Data(stream, content):
                    yield Output(content, errors=stream == ERRORS)
                case Credit(_, amount):
                    self._room += amount
                    self._credited.set()
                case Message():
                    said = decode_monitor(frame)
                    if isinstance(said, Failed):
                        self._finish()
                        raise raised(said)
                    if isinstance(said, _LAST):
                        self._finish()
                        yield said
                        return
                    yield said
                case End():
                    continue
                case _:
                    raise WireError(
                        "a monitor does not send that", next_step="are both sides of one version?"
                    )

    def _finish(self) -> None:
        self.over = True
        self._credited.set()

    async def write(self, data: bytes) -> None:
        """Send input; waits while what was sent before is not taken. Once the operation is over, does nothing."""
        view = memoryview(data)
        while view and not self.over:
            if self._room <= 0:
                self._credited.clear()
                await self._credited.wait()
                continue
            piece = view[: min(DATA_LIMIT, self._room)]
            self._room -= len(piece)
            await self._link.send(encode_frame(Data(INPUT, bytes(piece))))
            view = view[len(piece) :]

    async def taken(self) -> None:
        """Returns when the other side has taken all input that was sent, or the operation is over."""
        while self._room < WINDOW and not self.over:
            self._credited.clear()
            await self._credited.wait()

    async def end_input(self) -> None:
        """There is no more input."""
        await self._link.send(encode_frame(End(INPUT)))

    async def signal(self, number: int) -> None:
        """A signal to the command."""
        await self._link.send(encode(Signal(number)))

    async def resize(self, rows: int, columns: int) -> None:
        """The terminal has another size now."""
        await self._link.send(encode(Resize(rows, columns)))

    async def detach(self) -> None:
        """Let the command run on: the monitor says `Done`, and hangs up."""
        await self._link.send(encode(Detach()))

    async def close(self) -> None:
        """Hang up; a command that still runs is killed, unless another client began it."""
        self._finish()
        await self._link.close()


async def begin(path: Path, asked: ClientMessage) -> Operation:
    """Ask a monitor.

    Raises:
        UsageError: no machine could do that.
        MachineError: no monitor is there.
    """
    try:
        if (why := refusal(asked)) is not None:
            raise errors.UsageError(f"a machine cannot be asked that: {why}", next_step="correct that value")
        sentence = encode(asked)
    except UnicodeEncodeError as error:
        raise errors.UsageError(
            f"{error.object!r} is not UTF-8", next_step="a machine is told what to do in UTF-8"
        ) from error
    except ValueError as error:
        raise errors.UsageError(f"too much at once: {error}", next_step="pass less") from error
    link = await connect(path)
    await link.send(sentence)
    return Operation(link)


async def ask(path: Path, asked: ClientMessage) -> MonitorMessage:
    """An operation without streams: its last word."""
    operation = await begin(path, asked)
    try:
        async for said in operation:
            if not isinstance(said, Output):
                return said
        raise MachineError("the monitor said nothing", next_step="see capsem list")
    finally:
        await operation.close()


async def answer(path: Path, asked: ClientMessage, kind: type[T], what: str) -> T:
    """An operation without streams: its last word, of the one kind that answers it.

    Args:
        path: the monitor's socket.
        asked: of it.
        kind: of the answer.
        what: the monitor did not do where it answers otherwise; for the error.

    Raises:
        MachineError: it answers otherwise.
        CapsemError: it could not be done.
    """
    said = await ask(path, asked)
    if not isinstance(said, kind):
        raise MachineError(f"the monitor did not {what}", next_step="are both sides of one version?")
    return said


async def read_file(path: Path, asked: File, limit: int = READ_LIMIT) -> bytes:
    """The content of a file of the machine.

    Raises:
        CapsemError: it is not there, or has more than `limit` bytes: a machine can send without end.
    """
    operation = await begin(path, asked)
    content = bytearray()
    with contextlib.suppress(StopAsyncIteration):
        try:
            async for said in operation:
                if isinstance(said, Output):
                    content += said.content
                    if len(content) > limit:
                        raise MachineError(
                            f"{asked.path} has more than the {limit} bytes that are read into memory",
                            next_step="copy it to a file: capsem cp",
                        )
        finally:
            await operation.close()
    return bytes(content)


async def write_file(path: Path, asked: File, pieces: AsyncIterator[bytes]) -> dict[str, Any]:
    """Put what `pieces` brings into a file of the machine; returns what the machine says of it."""
    operation = await begin(path, asked)
    broken: list[Exception] = []

    async def feed() -> None:
        try:
            async for piece in pieces:
                await operation.write(piece)
            await operation.end_input()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised below
            # Nobody answers before the end of the content, which will not come: hanging up takes back what was sent.
            broken.append(error)
            await operation.close()

    feeding = asyncio.create_task(feed())
    try:
        async for said in operation:
            if isinstance(said, Result):
                return said.value
        raise MachineError("the monitor said nothing", next_step="see capsem list")
    except CapsemError:
        if broken:
            raise broken[0] from None
        raise
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
        await operation.close()


__all__ = [
    "Exec", "Operation", "Output", "Started", "answer", "ask", "begin", "raised", "read_file", "told", "write_file",
]  # fmt: skip
