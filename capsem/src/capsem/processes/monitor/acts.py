"""Commands and files: what a client asks of the machine, done by its agent, with the client's streams in between.

Each is decided and on the log before it happens. A client that hangs up ends its command. Refuses a client that sends
more input than it was given room for, and frames that have no place.

    await run_command(machine, link, asked)
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from capsem.errors import (
    CapsemError,
    ConflictError,
    MachineError,
    NoSuchCommandError,
    NotExecutableError,
    NotFoundError,
    RefusedError,
    UsageError,
    WireError,
)
from capsem.host.channel import Channel
from capsem.host.flow import Incoming, StreamResetError
from capsem.host.jobs import GuestError, Job
from capsem.host.link import Link
from capsem.host.operation import told
from capsem.processes.monitor import archives
from capsem.processes.monitor.deciding import Verdict
from capsem.processes.monitor.machine import Machine
from capsem.processes.monitor.patience import NO_ANSWER, unanswered
from capsem.processes.monitor.seeing import Seeing
from capsem.wire import guest
from capsem.wire.frame import DATA_LIMIT, Credit, Data, End, FrameError, Message
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import (
    ERRORS,
    INPUT,
    OUTPUT,
    WINDOW,
    Exec,
    Exited,
    Failed,
    File,
    Resize,
    Result,
    Signal,
    Started,
    decode_client,
    encode,
)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULTS = {"PATH": PATH, "LANG": "C.UTF-8"}
# Of any other user its agent knows the home and the name, by the machine's own accounts.
OF_ROOT = {"HOME": "/root", "USER": "root", "LOGNAME": "root"}
# Where a machine's workspace is in it.
INSIDE = "/workspace"
# After its end, a command's children may hold its output open; what has come by then is passed on.
_LINGER_SECONDS = 0.3
# A machine whose programs run takes less by far, also where it is emulated on a busy host.
_ANSWER_SECONDS = 60.0
# After a command's time, or its client, is over the guest has killed it within this, or is not waited for.
_KILL_SECONDS = 20.0
# What is seen of a command that used the network is told when nothing new came for this long.
_QUIET_SECONDS, _RECORDED_SECONDS = 0.1, 2.0
_OPERATIONS = {
    "stat": "read",
    "list": "read",
    "read": "read",
    "write": "write",
    "mkdir": "create",
    "remove": "remove",
    "pack": "read",
    "unpack": "write",
}


async def decide(machine: Machine, kind: str, verdict: Verdict, **fields: Any) -> None:
    """Put the decision on the log.

    Raises:
        RefusedError: it is a refusal.
        MachineError: it cannot be recorded.
    """
    await machine.evidence.write(kind, {**fields, **verdict.entry})
    if not verdict.allowed:
        raise RefusedError(f"refused: {verdict.reason}", next_step=verdict.step)


def as_error(error: GuestError) -> Failed:
    """What the guest could not do, as the error it is for a client."""
    match error.errno:
        case "ENOENT" | "ENOTDIR":
            kind: CapsemError = NotFoundError(error.message, next_step="is the name right?")
        case "EEXIST" | "EISDIR" | "ENOTEMPTY" | "EAGAIN":
            kind = ConflictError(error.message, next_step="see what is there: capsem exec MACHINE -- ls -l")
        case _:
            kind = MachineError(error.message, next_step=error.next_step)
    return told(kind, error.errno)


def not_started(program: str, error: GuestError) -> CapsemError:
    """Why a command did not start, with the exit code that shells give to it."""
    if error.errno == "ENOENT":
        return NoSuchCommandError(
            error.message, next_step=f"is {program} in the image, and is there such a directory?"
        )
    if error.errno in {"EACCES", "ENOEXEC", "EISDIR", "ENOTDIR"}:
        return NotExecutableError(error.message, next_step=f"see capsem exec MACHINE -- ls -l {program}")
    return MachineError(error.message, next_step=error.next_step)


async def run_command(machine: Machine, link: Link, asked: Exec) -> None:
    """Run a command for a client, to its end.

    Raises:
        CapsemError: it was refused, or could not be started or recorded.
    """
    spec = machine.record.spec
    user = asked.user or 0
    usual = {**DEFAULTS, **({} if user else OF_ROOT)}
    env = {**usual, **machine.network.environment(), **spec.env, **asked.env}
    cwd = asked.cwd or (INSIDE if spec.workspace is not None else "/root" if user == 0 else "/")
    channel = machine.channel
    verdict = machine.rules.process(asked.argv)
    fields = {"argv": list(asked.argv), "cwd": cwd, "user": user, "tty": asked.tty is not None}
    await decide(machine, "machine.exec", verdict, **fields)
    act = verdict.event["event"]["id"]
    with machine.job(), machine.evidence.watched() as seeing:
        try:
            async with asyncio.timeout(_within(asked) or _ANSWER_SECONDS):
                job = await channel.exec(
                    asked.argv, env=env, cwd=cwd, uid=user, gid=user, stdin=asked.stdin,
                    tty=None if asked.tty is None else (asked.tty.rows, asked.tty.columns), timeout_ms=asked.timeout_ms,
                )  # fmt: skip
        except GuestError as error:
            await machine.evidence.write("machine.exit", {"exec": act, "errno": error.errno})
            await link.send(encode(told(not_started(asked.argv[0], error), error.errno)))
            return
        except TimeoutError:
            await machine.evidence.write("machine.exit", {"exec": act, "errno": "ETIMEDOUT"})
            raise MachineError("the machine does not answer", next_step=NO_ANSWER) from None
        except ValueError as error:  # with the machine's own variables no message is that long
            await machine.evidence.write("machine.exit", {"exec": act, "errno": "E2BIG"})
            raise UsageError(f"too much at once: {error}", next_step="pass it by standard input") from None
        await link.send(encode(Started(job.pid)))
        silent = asyncio.create_task(machine.patience.silent(channel))
        try:
            ended = await _attended(link, job, asked, silent)
        finally:
            silent.cancel()
        if isinstance(ended, str):
            await machine.evidence.write("machine.exit", {"exec": act, "errno": "ETIMEDOUT", "reason": ended})
            raise MachineError(ended, next_step=NO_ANSWER)
        await machine.evidence.write(
            "machine.exit",
            {
                "exec": act,
                "code": ended.code,
                "signal": ended.signal,
                "timed_out": ended.timed_out,
                "cpu_ms": ended.cpu_ms,
            },
        )
        await _recorded(seeing)
        await link.send(encode(msgspec.structs.replace(ended, seen=seeing.seen())))


async def _recorded(seeing: Seeing) -> None:
    """What a command did in the network is recorded when it is over, which may be a moment after the command."""
    until = time.monotonic() + _RECORDED_SECONDS
    before = 0
    while before != (now := seeing.of_network) and time.monotonic() < until:
        before = now
        await asyncio.sleep(_QUIET_SECONDS)


class _Passage:
    """One stream on its way to the client; `passed` tells one that still flows from one that is only held open."""

    def __init__(self, link: Link, source: Incoming, stream: int) -> None:
        self.passed = 0
        self.task = asyncio.create_task(self._go(link, source, stream))

    async def _go(self, link: Link, source: Incoming, stream: int) -> None:
        async for untrusted in _pieces(source):
            await link.send(encode_frame(Data(stream, untrusted)))
            self.passed += len(untrusted)


def _within(asked: Exec) -> float | None:
    """Seconds in which a machine that keeps a command's time has said that it ended; None: it may take any."""
    return None if asked.timeout_ms is None else asked.timeout_ms / 1000 + _KILL_SECONDS


async def _end_of(
    job: Job, client: asyncio.Task[None], within: float | None, silent: asyncio.Task[None]
) -> guest.Exited | str:
    """How it ended, or why nobody knows. The time is kept here, whatever the guest does with it.

    A command may say nothing for as long as it likes: only a machine that answers nothing at all is not waited for.
    Where that runs on one day, the command is killed.
    """
    waiting = asyncio.create_task(job.wait())
    try:
        await asyncio.wait({waiting, client, silent}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            job.signal(signal.SIGKILL)
            if silent.done():
                return f"{unanswered()}; whether the command has ended is not known"
            await asyncio.wait({waiting}, timeout=_KILL_SECONDS)
        if waiting.done():
            return waiting.result()
        return "the command's time was over, and the machine does not say that it has ended"
    finally:
        waiting.cancel()


async def _attended(link: Link, job: Job, asked: Exec, silent: asyncio.Task[None]) -> Exited | str:
    """Pass its streams on until it has ended; a text as of `_end_of`."""
    passages = [_Passage(link, job.stdout, OUTPUT)]
    tty = asked.tty is not None
    if not tty:
        passages.append(_Passage(link, job.stderr, ERRORS))
    tasks = [passage.task for passage in passages]
    client = asyncio.create_task(_obey(link, job, stdin=asked.stdin or tty))
    try:
        ended = await _end_of(job, client, _within(asked), silent)
        if isinstance(ended, str):
            return ended
        passed = -1
        while not all(task.done() for task in tasks) and passed != (
            now := sum(one.passed for one in passages)
        ):
            passed = now
            await asyncio.wait(tasks, timeout=_LINGER_SECONDS)
    except asyncio.CancelledError:
        job.signal(signal.SIGKILL)
        raise
    finally:
        for task in (client, *tasks):
            task.cancel()
        await asyncio.gather(client, *tasks, return_exceptions=True)
        with contextlib.suppress(CapsemError):
            job.abandon()
    return Exited(ended.code, ended.signal, ended.timed_out, ended.cpu_ms, ended.max_rss_bytes)


async def _pieces(source: Incoming) -> AsyncIterator[bytes]:
    with contextlib.suppress(StreamResetError):
        async for chunk in source:
            for place in range(0, len(chunk), DATA_LIMIT):
                yield chunk[place : place + DATA_LIMIT]


class _Waiting:
    """Input that the command has not taken yet; at most WINDOW bytes."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._held = 0

    def put(self, content: bytes) -> None:
        """A piece, or nothing for the end.

        Raises:
            WireError: it is more than there was room for.
        """
        self._held += len(content)
        if self._held > WINDOW:
            raise WireError("more input than there was room for", next_step="wait for credit")
        self._pieces.put_nowait(content)

    async def get(self) -> bytes:
        """The next piece."""
        return await self._pieces.get()

    def taken(self, content: bytes) -> None:
        """The command has it."""
        self._held -= len(content)


async def _obey(link: Link, job: Job, *, stdin: bool) -> None:
    """What the client sends while its command runs; when it hangs up, the command is killed."""
    waiting = _Waiting()
    feeding = asyncio.create_task(_feed(link, job, waiting)) if stdin else None
    try:
        while (frame := await link.receive()) is not None:
            match frame:
                case Data(stream, content) if stream == INPUT and feeding is not None:
                    waiting.put(content)
                case End(stream) if stream == INPUT and feeding is not None:
                    waiting.put(b"")
                case Message():
                    match decode_client(frame):
                        case Signal(number):
                            job.signal(number)
                        case Resize(rows, columns):
                            job.resize(rows, columns)
                        case _:
                            raise WireError("one operation a connection", next_step="connect again")
                case _:
                    raise WireError(
                        "a frame that has no place here", next_step="see docs/formats/machine-monitor.md"
                    )
    except WireError:
        pass
    finally:
        if feeding is not None:
            feeding.cancel()
    job.signal(signal.SIGKILL)


async def _feed(link: Link, job: Job, waiting: _Waiting) -> None:
    while data := await waiting.get():
        with contextlib.suppress(StreamResetError, ValueError):
            await job.stdin.write(data)
        waiting.taken(data)
        await link.send(encode_frame(Credit(INPUT, len(data))))
    job.stdin.end()


async def work_on_file(machine: Machine, link: Link, asked: File) -> None:
    """One operation on a file for a client.

    Raises:
        CapsemError: it was refused, or could not be recorded.
    """
    channel = machine.channel
    user = asked.user or 0
    verdict = machine.rules.file(_OPERATIONS[asked.op], asked.path)
    await decide(machine, "machine.file", verdict, operation=asked.op, target=asked.path, user=user)
    with machine.job():
        try:
            value = await machine.patience.while_it_answers(channel, _worked(channel, link, asked, user))
            if value is not None:
                await link.send(encode(Result(value)))
        except GuestError as error:
            await link.send(encode(as_error(error)))


async def _worked(channel: Channel, link: Link, asked: File, user: int) -> dict[str, Any] | None:
    """What the guest says of it; None when the client has gone."""
    match asked.op:
        case "read":
            return await _sent(link, await channel.read_file(asked.path, uid=user, gid=user))
        case "write":
            return await _received(
                link, await channel.write_file(asked.path, mode=asked.mode, uid=user, gid=user)
            )
        case "pack":
            return await archives.pack(channel, link, asked, user)
        case "unpack":
            value = await archives.unpack(channel, link, asked, user)
            if asked.path == INSIDE:
                # It is compared with what the host has: a name that a crash took away would look removed.
                await channel.lifecycle(guest.Sync)
            return value
        case _:
            return await channel.file(
                asked.op, asked.path, uid=user, gid=user, mode=asked.mode, recursive=asked.recursive
            )


async def _sent(link: Link, job: Job) -> dict[str, Any] | None:
    """A file's content to the client."""
    try:
        async for untrusted in _pieces(job.stdout):
            await link.send(encode_frame(Data(OUTPUT, untrusted)))
            if link.lost:
                # A file of the guest need not end.
                job.abandon()
                return None
        return await job.result()
    except asyncio.CancelledError:
        with contextlib.suppress(CapsemError):
            job.abandon()
        raise


async def _received(link: Link, job: Job) -> dict[str, Any]:
    """The client's input into a file; without its end the file stays as it was."""
    try:
        while True:
            frame = await link.receive()
            match frame:
                case Data(stream, content) if stream == INPUT:
                    try:
                        await job.stdin.write(content)
                    except StreamResetError:
                        return await job.result()
                    await link.send(encode_frame(Credit(INPUT, len(content))))
                case End(stream) if stream == INPUT:
                    job.stdin.end()
                    return await job.result()
                case _:
                    raise WireError("the content broke off", next_step="copy it again")
    except (WireError, FrameError):
        await _taken_back(job)
        raise
    except asyncio.CancelledError:
        with contextlib.suppress(CapsemError):
            job.abandon()
        raise


async def _taken_back(job: Job) -> None:
    """Reset a write, and wait until the agent has said so: until then the reset may still be on its way."""
    job.abandon()
    with contextlib.suppress(GuestError, TimeoutError):
        async with asyncio.timeout(5):
            await job.result()
