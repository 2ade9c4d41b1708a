"""Commands and files: what a client asks of the machine, done by its agent, with the client's streams in between.

Each is decided and on the log before it happens. What clients are to a command that runs is in `attending`. Refuses
content of a file that breaks off, and what this machine's agent is too old for.

    await run_command(machine, link, asked)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
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
from capsem.host.flow import StreamResetError
from capsem.host.jobs import GuestError, Job
from capsem.host.link import Link
from capsem.host.operation import told
from capsem.processes.monitor import archives, looking
from capsem.processes.monitor.attending import Attended, pieces, within
from capsem.processes.monitor.deciding import Verdict
from capsem.processes.monitor.machine import Machine
from capsem.processes.monitor.patience import NO_ANSWER
from capsem.processes.monitor.running import now
from capsem.processes.monitor.seeing import Seeing
from capsem.wire import guest
from capsem.wire.frame import Credit, Data, End, FrameError
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import (
    INPUT,
    OUTPUT,
    Attach,
    Command,
    Exec,
    Exited,
    Failed,
    File,
    Result,
    Seen,
    Started,
    encode,
)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULTS = {"PATH": PATH, "LANG": "C.UTF-8"}
# Of any other user its agent knows the home and the name, by the machine's own accounts.
OF_ROOT = {"HOME": "/root", "USER": "root", "LOGNAME": "root"}
# Where a machine's workspace is in it.
INSIDE = "/workspace"
# A machine whose programs run takes less by far, also where it is emulated on a busy host.
_ANSWER_SECONDS = 60.0
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
    "watch": "read",
}
# Of what runs, a message tells so many characters of the arguments and of the directory, and so many arguments.
TOLD_LIMIT, _TOLD_ARGUMENTS = 512, 64


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
            async with asyncio.timeout(within(asked) or _ANSWER_SECONDS):
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
        about = _about(job.pid, asked, cwd, user)

        async def attends(how: dict[str, Any]) -> None:
            await machine.evidence.write("machine.attended", {"exec": act, "pid": job.pid, **how})

        with machine.commands.begin(Attended(job, link, asked, about, attends)) as attended:
            try:
                whole = msgspec.structs.replace(
                    await _ended(machine, channel, attended, act), seen=await _recorded(seeing)
                )
            except CapsemError as error:
                attended.finish(error)
                raise
            attended.finish(whole)
        await link.send(encode(whole))


async def attend(machine: Machine, link: Link, asked: Attach) -> None:
    """Have a client attend to a command that another one began, to its end.

    Raises:
        CapsemError: there is none, it cannot be recorded, or how it ended is not known.
    """
    ended = await machine.commands.of(asked.pid).also(link)
    if ended is not None:
        await link.send(encode(ended))


def _about(pid: int, asked: Exec, cwd: str, user: int) -> Command:
    """What is told of a command that runs: of its arguments and its directory, so much that all fit one message."""
    argv: list[str] = []
    for text in asked.argv:
        room = TOLD_LIMIT - sum(map(len, argv))
        if room <= 0 or len(argv) == _TOLD_ARGUMENTS:
            break
        argv.append(text[:room])
    return Command(
        pid, tuple(argv), cwd[:TOLD_LIMIT], user, now(), stdin=asked.stdin or asked.tty is not None,
        tty=asked.tty is not None, attended=True, cut=tuple(argv) != asked.argv or len(cwd) > TOLD_LIMIT,
    )  # fmt: skip


async def _ended(machine: Machine, channel: Channel, attended: Attended, act: str) -> Exited:
    """How a command ended, which is on the log then.

    Raises:
        MachineError: that is not known.
    """

    async def record(ended: Exited) -> None:
        how = {
            "code": ended.code, "signal": ended.signal, "timed_out": ended.timed_out, "cpu_ms": ended.cpu_ms,
        }  # fmt: skip
        await machine.evidence.write("machine.exit", {"exec": act, **how})

    silent = asyncio.create_task(machine.patience.silent(channel))
    try:
        ended = await attended.until_over(silent, record)
    finally:
        silent.cancel()
    if isinstance(ended, str):
        await machine.evidence.write("machine.exit", {"exec": act, "errno": "ETIMEDOUT", "reason": ended})
        raise MachineError(ended, next_step=NO_ANSWER)
    return ended


async def _recorded(seeing: Seeing) -> Seen:
    """What a command did in the network is recorded when it is over, which may be a moment after the command."""
    until = time.monotonic() + _RECORDED_SECONDS
    before = 0
    while before != (now := seeing.of_network) and time.monotonic() < until:
        before = now
        await asyncio.sleep(_QUIET_SECONDS)
    return seeing.seen()


async def work_on_file(machine: Machine, link: Link, asked: File) -> None:
    """One operation on a file for a client.

    Raises:
        CapsemError: it was refused, or could not be recorded.
    """
    channel = machine.channel
    user = asked.user or 0
    _able(channel, asked)
    verdicts = (
        [machine.rules.file(_OPERATIONS[asked.op], asked.path)]
        if asked.to is None
        else machine.rules.rename(asked.path, asked.to)
    )
    for verdict in verdicts:
        await decide(machine, "machine.file", verdict, operation=asked.op, target=asked.path, user=user)
    with machine.job():
        try:
            value = await machine.patience.while_it_answers(channel, _worked(channel, link, asked, user))
            if value is not None:
                await link.send(encode(Result(value)))
        except GuestError as error:
            await link.send(encode(as_error(error)))


def _able(channel: Channel, asked: File) -> None:
    """Refuse what the agent of an older image would end its machine over.

    Raises:
        MachineError: the agent of this machine cannot do it.
    """
    need = "pages" if asked.after is not None else {"rename": "rename", "watch": "watch"}.get(asked.op)
    if need is not None and need not in channel.capabilities:
        raise MachineError(
            f"this machine's agent is too old to {asked.op if asked.after is None else 'list so many names'}",
            next_step="capsem image build, then create the machine again",
        )


async def _worked(channel: Channel, link: Link, asked: File, user: int) -> dict[str, Any] | None:
    """What the guest says of it; None when the client has gone."""
    match asked.op:
        case "read":
            return await _sent(link, await channel.read_file(asked.path, uid=user, gid=user))
        case "write":
            return await _received(
                link, await channel.write_file(asked.path, mode=asked.mode, uid=user, gid=user)
            )
        case "watch":
            return await looking.watch(channel, link, asked, user)
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
                asked.op, asked.path, uid=user, gid=user, mode=asked.mode, recursive=asked.recursive, to=asked.to,
                after=asked.after,
            )  # fmt: skip


async def _sent(link: Link, job: Job) -> dict[str, Any] | None:
    """A file's content to the client."""
    try:
        async for untrusted in pieces(job.stdout):
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
