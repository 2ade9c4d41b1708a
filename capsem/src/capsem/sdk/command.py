"""A command in a machine, seen from Python: its result, and a handle on one that still runs.

Refuses nothing of its own: a command that fails is a result, unless `check` was asked for.

    handle = await start(socket, Exec(argv=("cat",), stdin=True), Wish())
    await handle.send_stdin("text")
    result = await handle.wait()
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from capsem.errors import CapsemError, CommandTimeoutError, MachineError, UsageError
from capsem.host.operation import Operation, Output, begin
from capsem.wire.monitor import Attach, ClientMessage, Done, Exec, Exited, Seen, Size, Started

OnText = Callable[[str], object]
OUTPUT_LIMIT = 64 << 20
"""Bytes of output that are kept; what is more is told to the callbacks only."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended.

    Attributes:
        exit_code: its own; 128 and the signal's number when it died of one.
        stdout: what it wrote, as UTF-8; wrong bytes are replaced.
        stderr: the same of its standard error.
        signal: the signal it died of, or None.
        cpu_ms: processor time, as the guest reports it.
        max_rss_bytes: its largest memory, as the guest reports it.
        truncated: whether there was more output than is kept.
        seen: what went on the machine's log while it ran: requests, model calls, refusals, findings.
    """

    exit_code: int
    stdout: str
    stderr: str
    signal: int | None = None
    cpu_ms: int = 0
    max_rss_bytes: int = 0
    truncated: bool = False
    seen: Seen = field(default_factory=Seen)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a command's output, as it came. The last one has `exit_code` and no text."""

    text: str
    stderr: bool = False
    exit_code: int | None = None


class Texts:
    """The text of two streams of bytes: a character whose bytes come in two pieces is one. Wrong bytes are replaced."""

    def __init__(self) -> None:
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = (make("replace"), make("replace"))

    def of(self, said: Output) -> str:
        """What can be read of it by now."""
        return self._decoders[int(said.errors)].decode(said.content)

    def rest(self) -> tuple[str, str]:
        """What never became a character, of output and of errors."""
        out, errors = (one.decode(b"", final=True) for one in self._decoders)
        return out, errors


class CommandExitError(CapsemError):
    """`check=True`, and the command did not end with 0.

    Attributes:
        result: the whole result.
    """

    exit_code = 1

    def __init__(self, message: str, *, result: CommandResult) -> None:
        super().__init__(message, next_step="look at result.stderr")
        self.result = result


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A command that runs in a machine.

    Attributes:
        pid: its process id in the machine, as the guest says.
        cmd: its program.
        args: its arguments.
        cwd: where it was started.
        user: the id of the user that it was started as.
        started: when, RFC 3339.
        stdin: whether it takes input.
        tty: whether it has a terminal.
        attended: whether the client is there that began it.
        cut: whether there is more of its arguments or its directory than is told.
    """

    pid: int
    cmd: str
    args: tuple[str, ...]
    cwd: str
    user: int
    started: str
    stdin: bool
    tty: bool
    attended: bool
    cut: bool


class CommandHandle:
    """A command that was started, or is attended to.

    Attributes:
        pid: its process id in the machine.
    """

    def __init__(
        self, operation: Operation, on_stdout: OnText | None, on_stderr: OnText | None, *, own: bool = True
    ) -> None:
        self.pid = 0
        self._operation = operation
        self._own = own
        self._tell = (on_stdout, on_stderr)
        self._kept = (bytearray(), bytearray())
        self._texts = Texts()
        self._truncated = False
        self._started = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> Exited | None:
        try:
            async for said in self._operation:
                if isinstance(said, Output):
                    self._take(said)
                elif isinstance(said, Started):
                    self.pid = said.pid
                    self._started.set()
                elif isinstance(said, Exited):
                    for tell, text in zip(self._tell, self._texts.rest(), strict=True):
                        if tell is not None and text:
                            tell(text)
                    return said
                elif isinstance(said, Done):
                    return None
            raise MachineError("the machine said nothing of the command's end", next_step="see capsem list")
        finally:
            self._started.set()
            await self._operation.close()

    def _take(self, said: Output) -> None:
        which = int(said.errors)
        kept, tell = self._kept[which], self._tell[which]
        room = OUTPUT_LIMIT - len(kept)
        kept += said.content[:room]
        self._truncated = self._truncated or len(said.content) > room
        if tell is not None and (text := self._texts.of(said)):
            tell(text)

    async def started(self) -> None:
        """Waits until it runs.

        Raises:
            CapsemError: it could not be started.
        """
        await self._started.wait()
        if not self.pid:
            await self._reading

    async def send_stdin(self, data: str | bytes) -> None:
        """More input; waits while the command does not read."""
        await self._operation.write(data.encode() if isinstance(data, str) else data)

    async def stdin_taken(self) -> None:
        """Returns when all that was sent is with the command, or that has ended."""
        await self._operation.taken()

    async def close_stdin(self) -> None:
        """There is no more input."""
        await self._operation.end_input()

    async def send_signal(self, number: int) -> None:
        """A signal to its process group."""
        await self._operation.signal(number)

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        await self._operation.signal(signal.SIGKILL)
        await asyncio.shield(self._reading)

    async def disconnect(self) -> None:
        """Leave it, and let it run on; what it writes while nobody attends to it is let go.

        `commands.connect(pid)` attends to it again, as long as it runs. Its time (`timeout`) goes on.
        """
        if not self._reading.done():
            if self._own:
                await self._operation.detach()
                await asyncio.shield(self._reading)
            else:
                await self.close()

    async def leave(self) -> None:
        """Attend to it no more; raises what went wrong meanwhile."""
        if self._operation.over:
            await asyncio.shield(self._reading)
        await self.close()

    async def close(self) -> None:
        """Leave it; a command that still runs is killed, if it was started by this handle."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, CapsemError):
            await self._reading

    async def wait(self, *, check: bool = False) -> CommandResult:
        """How it ended.

        Raises:
            CommandTimeoutError: its time was over.
            CommandExitError: `check`, and it did not end with 0.
            UsageError: it was disconnected from.
        """
        exited = None if self._reading.cancelled() else await asyncio.shield(self._reading)
        if exited is None:
            raise UsageError(
                "this handle was disconnected from its command", next_step=f"use commands.connect({self.pid})"
            )
        out, errors = (kept.decode(errors="replace") for kept in self._kept)
        result = result_of(exited, out, errors, truncated=self._truncated)
        if check and result.exit_code != 0:
            raise CommandExitError(f"the command ended with {result.exit_code}", result=result)
        return result


def to_run(
    cmd: str | Sequence[str], *, envs: Mapping[str, str] | None, cwd: str | None, user: int | None,
    timeout: float | None, stdin: bool = False, tty: Size | None = None,
) -> Exec:  # fmt: skip
    """A command as a machine is asked to run it; arguments as of `AsyncSandbox.commands.run`."""
    argv = ("/bin/sh", "-c", cmd) if isinstance(cmd, str) else tuple(cmd)
    return Exec(
        argv=argv, env=dict(envs or {}), cwd=cwd, user=user, stdin=stdin, tty=tty,
        timeout_ms=None if timeout is None else max(1, int(timeout * 1000)),
    )  # fmt: skip


def result_of(
    exited: Exited, stdout: str = "", stderr: str = "", *, truncated: bool = False
) -> CommandResult:
    """How a command ended.

    Raises:
        CommandTimeoutError: its time was over.
    """
    if exited.timed_out:
        raise CommandTimeoutError(
            "the command's time was over; it was killed", next_step="give it a longer timeout"
        )
    return CommandResult(
        exit_code=exited.exit_code, stdout=stdout, stderr=stderr, signal=exited.signal, cpu_ms=exited.cpu_ms,
        max_rss_bytes=exited.max_rss_bytes, truncated=truncated, seen=exited.seen or Seen(),
    )  # fmt: skip


async def start(
    socket: Path, asked: Exec, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None
) -> CommandHandle:
    """Start a command; returns when it runs.

    Raises:
        CapsemError: it could not be started.
    """
    return await _begun(socket, asked, on_stdout, on_stderr, own=True)


async def attach(
    socket: Path, pid: int, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None
) -> CommandHandle:
    """Attend to a command that runs already.

    Raises:
        NotFoundError: there is none with that process id.
    """
    return await _begun(socket, Attach(pid), on_stdout, on_stderr, own=False)


async def _begun(
    socket: Path, asked: ClientMessage, on_stdout: OnText | None, on_stderr: OnText | None, *, own: bool
) -> CommandHandle:
    handle = CommandHandle(await begin(socket, asked), on_stdout, on_stderr, own=own)
    try:
        await handle.started()
    except BaseException:
        await handle.close()
        raise
    return handle


async def pieces(socket: Path, asked: Exec) -> AsyncGenerator[Piece]:
    """Run a command and give its output as it comes; closing this ends the command.

    Raises:
        CommandTimeoutError: its time was over.
    """
    operation = await begin(socket, asked)
    texts = Texts()
    try:
        async for said in operation:
            if isinstance(said, Output):
                if text := texts.of(said):
                    yield Piece(text, stderr=said.errors)
            elif isinstance(said, Exited):
                for number, text in enumerate(texts.rest()):
                    if text:
                        yield Piece(text, stderr=bool(number))
                yield Piece("", exit_code=result_of(said).exit_code)
    finally:
        await operation.close()
