"""A command that runs, and the clients that attend to it: its output goes to each of them, and each may give it input.

Its own client ends it by hanging up, unless that has let it go on; others come and go. A client that does not read
holds the command up, as its own does: nothing is dropped for one that is there. Once the command has ended, one that
keeps its own client from the rest is hung up on. With nobody there, output is let go.
What another client does is on the log before it has effect. Refuses what cannot be recorded, more input than a client
was given room for, and frames that have no place.

    with machine.commands.begin(Attended(job, link, asked, about, attends)) as attended:
        ended = await attended.until_over(silent)           # for its own client
    await machine.commands.of(pid).also(link)               # for another one, to the command's end
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec

from capsem.errors import CapsemError, ConflictError, NotFoundError, UsageError, WireError
from capsem.host.flow import Incoming, StreamResetError
from capsem.host.jobs import Job
from capsem.host.link import Link
from capsem.processes.monitor.patience import unanswered
from capsem.wire import guest
from capsem.wire.frame import DATA_LIMIT, Credit, Data, End, Message
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import (
    ERRORS,
    INPUT,
    OUTPUT,
    WINDOW,
    Command,
    Detach,
    Done,
    Exec,
    Exited,
    Resize,
    Signal,
    Started,
    decode_client,
    encode,
)

# After its end, a command's children may hold its output open; what has come by then is passed on.
_LINGER_SECONDS = 0.3
# After that one who does not read may keep the others from the rest for so long, or is hung up on.
_BEHIND_SECONDS = 5.0
# After a command's time, or its client, is over the guest has killed it within this, or is not waited for.
KILL_SECONDS = 20.0
Attends = Callable[[dict[str, Any]], Awaitable[None]]


def within(asked: Exec) -> float | None:
    """Seconds in which a machine that keeps a command's time has said that it ended; None: it may take any."""
    return None if asked.timeout_ms is None else asked.timeout_ms / 1000 + KILL_SECONDS


async def pieces(source: Incoming) -> AsyncIterator[bytes]:
    """What comes, in pieces that fit a frame; a stream that is reset ends."""
    with contextlib.suppress(StreamResetError):
        async for chunk in source:
            for place in range(0, len(chunk), DATA_LIMIT):
                yield chunk[place : place + DATA_LIMIT]


class _Passage:
    """One stream on its way to the clients; `passed` tells one that still flows from one that is only held open."""

    def __init__(self, attended: Attended, source: Incoming, stream: int) -> None:
        self.passed = 0
        self.task = asyncio.create_task(self._go(attended, source, stream))

    async def _go(self, attended: Attended, source: Incoming, stream: int) -> None:
        async for untrusted in pieces(source):
            await attended.tell(encode_frame(Data(stream, untrusted)))
            self.passed += len(untrusted)


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


class Attended:
    """One command that runs.

    Args:
        job: the command.
        link: its own client.
        asked: what that asked for.
        about: what is told of it.
        attends: puts on the log what another client is about to do.
    """

    def __init__(self, job: Job, link: Link, asked: Exec, about: Command, attends: Attends) -> None:
        self.about = about
        self._attends = attends
        self._job = job
        self._asked = asked
        self._own: Link | None = link
        self._links = [link]
        self._sending: list[Link] = []
        self._over: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()

    @property
    def told(self) -> Command:
        """What is told of it, and whether its own client is there."""
        return msgspec.structs.replace(self.about, attended=self._own is not None)

    async def tell(self, frame: bytes) -> None:
        """A frame to whoever is there."""
        for link in tuple(self._links):
            self._sending.append(link)
            try:
                await link.send(frame)
            finally:
                self._sending.remove(link)

    def finish(self, how: Exited | CapsemError) -> None:
        """It is over; whoever else attends to it is told."""
        if self._over.done():
            return
        if isinstance(how, CapsemError):
            self._over.set_exception(how)
            self._over.exception()
        else:
            self._over.set_result(how)

    async def until_over(
        self, silent: asyncio.Task[None], record: Callable[[Exited], Awaitable[None]]
    ) -> Exited | str:
        """Pass its streams on until it has ended: how it did, or why nobody knows.

        Args:
            silent: done when the agent does not answer any more.
            record: told how it ended, before what is left is passed on: that may take as long as a client likes.
        """
        passages = [_Passage(self, self._job.stdout, OUTPUT)]
        if self._asked.tty is None:
            passages.append(_Passage(self, self._job.stderr, ERRORS))
        tasks = [passage.task for passage in passages]
        client = asyncio.create_task(self._owned())
        try:
            ended = await self._ended(client, silent)
            if isinstance(ended, str):
                return ended
            how = Exited(ended.code, ended.signal, ended.timed_out, ended.cpu_ms, ended.max_rss_bytes)
            await record(how)
            await self._rest(passages, silent)
            return how
        except asyncio.CancelledError:
            # With its machine it has ended.
            with contextlib.suppress(CapsemError):
                self._job.signal(signal.SIGKILL)
            raise
        finally:
            for task in (client, *tasks):
                task.cancel()
            await asyncio.gather(client, *tasks, return_exceptions=True)
            with contextlib.suppress(CapsemError):
                self._job.abandon()

    async def _rest(self, passages: list[_Passage], silent: asyncio.Task[None]) -> None:
        """After its end: returns when everything was passed on, or nothing more comes of what is only held open."""
        tasks, passed, behind = [one.task for one in passages], -1, 0.0
        while not all(task.done() for task in tasks) and not silent.done():
            now = sum(one.passed for one in passages)
            if passed == now:
                if not self._sending:
                    return
                behind += _LINGER_SECONDS
            passed = now
            if behind >= _BEHIND_SECONDS:
                self._hang_up_on_who_does_not_read()
            await asyncio.wait(tasks, timeout=_LINGER_SECONDS)

    def _hang_up_on_who_does_not_read(self) -> None:
        """But for its own client, or the eldest where that has let it go: nobody waits behind that."""
        for link in tuple(self._sending):
            if link not in self._links[:1]:
                link.abort()

    async def _ended(self, client: asyncio.Task[None], silent: asyncio.Task[None]) -> guest.Exited | str:
        """How it ended, or why nobody knows. The time is kept here, whatever the guest does with it.

        A command may say nothing for as long as it likes: only a machine that answers nothing at all is not waited for.
        Where that runs on one day, the command is killed.
        """
        waiting = asyncio.create_task(self._job.wait())
        try:
            await asyncio.wait(
                {waiting, client, silent}, timeout=within(self._asked), return_when=asyncio.FIRST_COMPLETED
            )
            if not waiting.done():
                self._job.signal(signal.SIGKILL)
                if silent.done():
                    return f"{unanswered()}; whether the command has ended is not known"
                await asyncio.wait({waiting}, timeout=KILL_SECONDS)
            if waiting.done():
                return waiting.result()
            return "the command's time was over, and the machine does not say that it has ended"
        finally:
            waiting.cancel()

    async def _owned(self) -> None:
        """Obey its own client; returns when that has hung up and did not let it go on."""
        assert self._own is not None
        link = self._own
        async with self._feeding(link) as waiting:
            try:
                if not await self._obeyed(link, waiting, own=True):
                    return
            except (WireError, UsageError):
                return
            self._own = None
            self._links.remove(link)
            await link.send(encode(Done()))
            await link.close()
            # What it gave before is still taken.
            await asyncio.shield(self._over)

    async def also(self, link: Link) -> Exited | None:
        """Have another client attend to it until it ends, or the client goes; None: the client has gone.

        Raises:
            CapsemError: it cannot be recorded, or how it ended is not known.
        """
        await self._attends({"as": "connect"})
        await link.send(encode(Started(self.about.pid)))
        if not self._over.done():
            self._links.append(link)
        async with self._feeding(link) as waiting:
            obeying = asyncio.create_task(self._obeyed(link, waiting, own=False))
            try:
                either: set[asyncio.Future[Any]] = {obeying, self._over}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._over.done():
                    return self._over.result()
                obeying.result()
                return None
            finally:
                obeying.cancel()
                await asyncio.gather(obeying, return_exceptions=True)
                with contextlib.suppress(ValueError):
                    self._links.remove(link)

    @contextlib.asynccontextmanager
    async def _feeding(self, link: Link) -> AsyncIterator[_Waiting | None]:
        """A client's input on its way to the command, as long as the context is; None: the command has no input."""
        if not self.about.stdin:
            yield None
            return
        waiting = _Waiting()
        feeding = asyncio.create_task(self._feed(link, waiting))
        try:
            yield waiting
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(self, link: Link, waiting: _Waiting) -> None:
        while data := await waiting.get():
            with contextlib.suppress(StreamResetError, ValueError):
                await self._job.stdin.write(data)
            waiting.taken(data)
            await link.send(encode_frame(Credit(INPUT, len(data))))
        self._job.stdin.end()

    async def _obeyed(self, link: Link, waiting: _Waiting | None, *, own: bool) -> bool:
        """Do what a client sends until it hangs up; True: its own client lets it go on.

        Raises:
            WireError: it says what none may.
            UsageError: it gives input to a command that takes none.
            MachineError: what another client does cannot be recorded.
        """
        # Of a terminal's size, as of input, its first is on the log: a window that is drawn larger has dozens.
        gave, sized = own, own or not self.about.tty
        while (frame := await link.receive()) is not None:
            match frame:
                case Data(stream) | End(stream) if stream == INPUT and waiting is None:
                    raise UsageError(
                        "the command was begun without an input", next_step="run it with background=True"
                    )
                case Data(stream) | End(stream) if stream == INPUT and waiting is not None:
                    if not gave:
                        await self._attends({"as": "stdin"})
                    gave = True
                    waiting.put(frame.content if isinstance(frame, Data) else b"")
                case Message():
                    match decode_client(frame):
                        case Signal(number):
                            if not own:
                                await self._attends({"as": "kill", "signal": number})
                            self._job.signal(number)
                        case Resize(rows, columns):
                            if not sized:
                                await self._attends({"as": "resize", "rows": rows, "columns": columns})
                            sized = True
                            self._job.resize(rows, columns)
                        case Detach() if own:
                            return True
                        case _:
                            raise WireError("one operation a connection", next_step="connect again")
                case _:
                    raise WireError(
                        "a frame that has no place here", next_step="see docs/formats/machine-monitor.md"
                    )
        return False


class Commands:
    """The commands that run in one machine since its start."""

    def __init__(self) -> None:
        self._running: list[Attended] = []

    @property
    def told(self) -> tuple[Command, ...]:
        """The oldest first."""
        return tuple(one.told for one in self._running)

    @contextlib.contextmanager
    def begin(self, attended: Attended) -> Iterator[Attended]:
        """One of them, as long as the context is."""
        self._running.append(attended)
        try:
            yield attended
        finally:
            self._running.remove(attended)
            attended.finish(_gone(attended.about.pid))

    def of(self, pid: int) -> Attended:
        """The one with this process id.

        Raises:
            NotFoundError: none has it.
            ConflictError: the machine gave it to more than one.
        """
        found = [one for one in self._running if one.about.pid == pid]
        if not found:
            raise _gone(pid)
        if len(found) > 1:
            raise ConflictError(
                f"the machine says of {len(found)} commands that they are process {pid}",
                next_step="end the machine: capsem stop --force",
            )
        return found[0]


def _gone(pid: int) -> NotFoundError:
    return NotFoundError(
        f"no command with process id {pid} runs in this machine since its last start",
        next_step="see commands.list",
    )
