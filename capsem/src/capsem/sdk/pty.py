"""A terminal in a machine, from Python: bytes in, bytes out, a size.

Refuses to be iterated where a callback is told already. Bytes are the guest's: nothing in them is looked at.

    shell = await box.pty.create(PtySize(rows=24, cols=80))
    await shell.send_stdin("exec cat")
    async for data in shell:
        ...
    (await shell.wait()).exit_code
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capsem.errors import CommandTimeoutError, MachineError, UsageError
from capsem.host.operation import Operation, Output, begin
from capsem.sdk.command import CommandResult, result_of, to_run
from capsem.sdk.loop import LOOP
from capsem.wire.monitor import Exited, MonitorMessage, Size, Started

OnData = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class PtySize:
    """A terminal's size, in characters; from 1 to 65535 each."""

    rows: int = 24
    cols: int = 80

    def told(self) -> Size:
        """As the machine is told it.

        Raises:
            UsageError: no terminal has that size.
        """
        if not (1 <= self.rows <= 65535 and 1 <= self.cols <= 65535):
            raise UsageError(
                f"{self.rows} rows and {self.cols} columns", next_step="give from 1 to 65535 of each"
            )
        return Size(rows=self.rows, columns=self.cols)


class AsyncPtyHandle:
    """A terminal that was opened. Iterate it for its bytes, until the command ends.

    Attributes:
        pid: the command's process id in the machine.
    """

    def __init__(self, operation: Operation, on_data: OnData | None) -> None:
        self.pid = 0
        self._operation = operation
        self._coming = operation.__aiter__()
        self._tell = on_data
        self._exited: Exited | None = None
        self._turn = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    async def begun(self) -> None:
        """Waits until it runs.

        Raises:
            CapsemError: it could not be started.
        """
        try:
            said = await self._next()
            if not isinstance(said, Started):
                raise MachineError("the machine did not say that it runs", next_step="see capsem list")
        except BaseException:
            await self._operation.close()
            raise
        self.pid = said.pid
        if self._tell is not None:
            self._reading = asyncio.create_task(self._rest())

    async def _next(self) -> Output | MonitorMessage:
        said = await anext(self._coming, None)
        if said is None:
            raise MachineError("the machine said nothing of the command's end", next_step="see capsem list")
        return said

    async def piece(self) -> bytes | None:
        """The next bytes; None when the command has ended."""
        async with self._turn:
            try:
                while self._exited is None:
                    said = await self._next()
                    if isinstance(said, Output):
                        return said.content
                    if isinstance(said, Exited):
                        self._exited = said
            except BaseException:
                await self._operation.close()
                raise
            await self._operation.close()
            return None

    async def _rest(self) -> None:
        while (data := await self.piece()) is not None:
            if self._tell is not None:
                self._tell(data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Its bytes as they come.

        Raises:
            UsageError: a callback is told of them.
        """
        if self._reading is not None:
            raise UsageError("on_data is told what comes", next_step="open it without on_data to iterate it")
        while (data := await self.piece()) is not None:
            yield data

    async def send_stdin(self, data: str | bytes) -> None:
        """What is typed. More than a window (256 KiB) waits until the command reads, and until its output is taken."""
        await self._operation.write(data.encode() if isinstance(data, str) else data)

    async def resize(self, size: PtySize) -> None:
        """It has another size now; the command gets SIGWINCH."""
        told = size.told()
        await self._operation.resize(told.rows, told.columns)

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._exited is None:
            await self._operation.signal(signal.SIGKILL)
        with contextlib.suppress(CommandTimeoutError):
            await self.wait()

    async def wait(self) -> CommandResult:
        """How the command ended; bytes that nobody was told of are let go. The result has no output.

        Raises:
            CommandTimeoutError: its time was over.
        """
        await (self._rest() if self._reading is None else asyncio.shield(self._reading))
        exited = self._exited
        if exited is None:
            raise MachineError("the machine said nothing of the command's end", next_step="see capsem list")
        return result_of(exited)


class AsyncPty:
    """Terminals of one machine."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def create(
        self, size: PtySize | None = None, *, cmd: str | Sequence[str] = ("/bin/sh", "-l"),
        envs: Mapping[str, str] | None = None, cwd: str | None = None, user: int | None = None,
        timeout: float | None = None, on_data: OnData | None = None,
    ) -> AsyncPtyHandle:  # fmt: skip
        """Open one and run a command in it.

        Args:
            size: 24 rows of 80 when not given.
            cmd: a line for `/bin/sh -c`, or a program and its arguments; a shell when not given.
            envs: variables beside the machine's own and `TERM=xterm-256color`.
            cwd: where; None: the machine's default.
            user: a user id; None: the machine's default.
            timeout: seconds until it is killed; None: never.
            on_data: told of bytes as they come; without it, the handle is iterated.

        Raises:
            RefusedError: a rule refused it.
        """
        envs = {"TERM": "xterm-256color", **(envs or {})}
        tty = (size or PtySize()).told()
        asked = to_run(cmd, envs=envs, cwd=cwd, user=user, timeout=timeout, stdin=True, tty=tty)
        handle = AsyncPtyHandle(await begin(self._socket, asked), on_data)
        await handle.begun()
        return handle


class PtyHandle:
    """`AsyncPtyHandle` without `await`; iterate it for its bytes."""

    def __init__(self, handle: AsyncPtyHandle) -> None:
        self._handle = handle
        self.pid = handle.pid

    def __iter__(self) -> Iterator[bytes]:
        return LOOP.each(self._handle.__aiter__())

    def send_stdin(self, data: str | bytes) -> None:
        """What is typed."""
        LOOP.run(self._handle.send_stdin(data))

    def resize(self, size: PtySize) -> None:
        """It has another size now."""
        LOOP.run(self._handle.resize(size))

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        LOOP.run(self._handle.kill())

    def wait(self) -> CommandResult:
        """How the command ended."""
        return LOOP.run(self._handle.wait())


class Pty:
    """Terminals of one machine, without `await`."""

    def __init__(self, pty: AsyncPty) -> None:
        self._pty = pty

    def create(
        self, size: PtySize | None = None, *, cmd: str | Sequence[str] = ("/bin/sh", "-l"),
        envs: Mapping[str, str] | None = None, cwd: str | None = None, user: int | None = None,
        timeout: float | None = None, on_data: OnData | None = None,
    ) -> PtyHandle:  # fmt: skip
        """Open one; arguments as in `AsyncPty`. The callback is called on the SDK's thread."""
        return PtyHandle(
            LOOP.run(
                self._pty.create(
                    size, cmd=cmd, envs=envs, cwd=cwd, user=user, timeout=timeout, on_data=on_data
                )
            )
        )
