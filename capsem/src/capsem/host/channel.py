"""The client of a machine's agent, over connected stream sockets, one a port (docs/formats/wire.md).

Everything that the guest says is hostile: a frame, a message or an order that is not documented closes every port, and
all that waits ends with the `FrameError`. Refuses to start a job before `identify` (the agent does, too).

    channel = Channel({5000: control, 5005: bulk, …})       # the host's ends of socket pairs
    async with channel:
        await channel.hello()                               # not in a restored clone: its template has heard it
        await channel.identify(os.urandom(64), "vm-1", time.time_ns())
        job = await channel.exec(["uname", "-a"])
        print(await job.stdout.read_all(1 << 20), (await job.wait()).code)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from capsem.errors import CapsemError, MachineError
from capsem.host.flow import Incoming, Outgoing, StreamResetError
from capsem.host.jobs import GuestError, GuestStream, Job, Request
from capsem.host.reports import Reports
from capsem.wire import guest
from capsem.wire.frame import Credit, Data, End, Frame, FrameError, FrameReader, Message, Reset
from capsem.wire.frame import encode as encode_frame
from capsem.wire.guest import BULK, CONTROL, LIFECYCLE, MCP, NETWORK, TERMINAL, WINDOWS

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a job's program is looked for when `env` says nothing else."""
_GUEST_STREAMS = 256
_OPENS = frozenset({NETWORK, MCP})
DROPPED = 2048
"""Frames of streams that are gone which a port may bring in a second; then it is not read until that is over."""
UNREAD = 4 << 20
"""Bytes that wait for a guest on a port on which it opens streams; until it has read them nothing is read of it."""


class _Port(asyncio.Protocol):
    """One port: bytes to frames, frames to the channel."""

    def __init__(self, channel: Channel, number: int) -> None:
        self.number = number
        self.drained = asyncio.Event()
        self.drained.set()
        self.transport: asyncio.Transport | None = None
        self._channel = channel
        self._reader = FrameReader()
        self._held: set[str] = set()
        self._dropped = 0

    def hold(self, why: str) -> None:
        """Read nothing of it until `release` with the same word."""
        if not self._held and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._held.add(why)

    def release(self, why: str) -> None:
        """Read on, unless it is held for another reason."""
        if why not in self._held:
            return
        self._held.discard(why)
        if not self._held and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def drop(self) -> None:
        """A frame came that is good for nothing; many of them cost more here than in the guest."""
        self._dropped += 1
        if self._dropped == 1:
            asyncio.get_running_loop().call_later(1.0, self._count_anew)
        elif self._dropped == DROPPED:
            self.hold("dropped")

    def _count_anew(self) -> None:
        self._dropped = 0
        self.release("dropped")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=1 << 20)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._channel.take(self.number, frame)
        except CapsemError as error:
            self._channel.fail(error, by_guest=True)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f": {exc}" if exc else ""
        self._channel.fail(
            MachineError(
                f"the machine's port {self.number} has hung up{reason}",
                next_step="see how the machine is: capsem info",
            )
        )

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()
        self.release("unread")

    def send(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
            # What the guest asks for here is answered, and only it can make room for the answers.
            if self.number in _OPENS and self.transport.get_write_buffer_size() > UNREAD:
                self.hold("unread")


class Channel:
    """All ports of one machine's agent."""

    def __init__(self, sockets: Mapping[int, socket.socket]) -> None:
        self._sockets = dict(sockets)
        self._ports: dict[int, _Port] = {}
        self._incoming: dict[tuple[int, int], Incoming] = {}
        self._outgoing: dict[tuple[int, int], Outgoing] = {}
        self._requests: dict[int, Request] = {}
        self._last = 0
        self._guest_last = {NETWORK: 0, MCP: 0}
        self._guest_streams: dict[tuple[int, int], GuestStream] = {}
        self._error: CapsemError | None = None
        self._held: list[tuple[int, bytes]] | None = None
        self.thaws = 0
        """How often it has run on after it stood still."""
        self._hello: asyncio.Future[guest.Hello] | None = None
        self._ready: asyncio.Future[guest.Ready] | None = None
        self.opened: asyncio.Queue[GuestStream] = asyncio.Queue()
        """Streams that the guest opened; each waits for `accept` or `refuse`."""
        self.broken = asyncio.Event()
        """Set when it was the guest's word that ended the channel."""
        self.reports = Reports(pause=lambda: self._hear(False), resume=lambda: self._hear(True))
        """What the guest tells of itself; who asks for it with `watch` takes it."""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._hello = loop.create_future()
        for number, connection in self._sockets.items():
            connection.setblocking(False)
            _, self._ports[number] = await loop.create_connection(
                lambda number=number: _Port(self, number), sock=connection  # type: ignore[misc]
            )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def close(self) -> None:
        """Closes every port; what waits ends with an error. Jobs of the guest are killed by its agent."""
        self.fail(MachineError("the channel was closed", next_step="connect to the machine again"))

    @property
    def error(self) -> CapsemError | None:
        """Why the channel is over, if it is."""
        return self._error

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the agent says it can; nothing before it was identified."""
        ready = self._ready
        if ready is None or not ready.done() or ready.cancelled() or ready.exception() is not None:
            return ()
        return ready.result().capabilities

    def fail(self, error: CapsemError, *, by_guest: bool = False) -> None:
        """Ends the channel for this reason, which may be what the guest said; the first one counts."""
        if self._error is not None:
            return
        self._error = error
        if by_guest:
            self.broken.set()
        for port in self._ports.values():
            if port.transport is not None:
                port.transport.abort()
            port.drained.set()
        if self._hello is not None and not self._hello.done():
            self._hello.set_exception(error)
            self._hello.exception()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()
        for request in self._requests.values():
            request.fail(error)
        for incoming in self._incoming.values():
            incoming.fail(error)
        for outgoing in self._outgoing.values():
            outgoing.fail(error)
        for stream in self._guest_streams.values():
            stream.over = True

    # --- what is asked of the agent -------------------------------------------------------------------------------

    async def hello(self) -> guest.Hello:
        """What the agent says first on a fresh boot.

        Raises:
            CapsemError: the channel ended before.
        """
        assert self._hello is not None, "enter the channel first"
        return await asyncio.shield(self._hello)

    async def identify(
        self, entropy: bytes, hostname: str, wall_clock_ns: int, authority: str | None = None
    ) -> guest.Ready:
        """Tells the machine who it is; nothing runs in it before.

        Args:
            entropy: 32 to 512 bytes of the host's randomness, never used twice.
            hostname: 1 to 63 of `a-z0-9-`.
            wall_clock_ns: nanoseconds since 1970.
            authority: what its programs are to trust beside what they do, PEM.

        Raises:
            ValueError: an argument out of its bounds.
            CapsemError: the machine could not take it, or the channel ended.
        """
        said = guest.identity(entropy, hostname, wall_clock_ns, authority)
        if self._ready is not None and not self._ready.done():
            raise MachineError("the machine is being identified already", next_step="wait for it")
        self._ready = asyncio.get_running_loop().create_future()
        self._say(CONTROL, said)
        return await self._ready

    async def ping(self) -> None:
        """Returns when the agent has answered."""
        request = self._request(CONTROL)
        self._say(CONTROL, guest.Ping(request.id))
        await request.done

    async def exec(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        uid: int = 0,
        gid: int = 0,
        stdin: bool = False,
        tty: tuple[int, int] | None = None,
        timeout_ms: int | None = None,
    ) -> Job:
        """Starts a program.

        Args:
            argv: the program and its arguments.
            env: all of its environment; None is PATH only.
            cwd: an absolute directory.
            uid: the user.
            gid: the group; it has no other.
            stdin: whether there is an input to write; else it is empty.
            tty: rows and columns of a terminal; then input and output are that.
            timeout_ms: after which it is ended.

        Raises:
            GuestError: it could not be started; `errno` says why.
            CapsemError: the channel ended.
        """
        request = self._request(CONTROL)
        size = guest.Size(*tty) if tty else None
        port = TERMINAL if tty else BULK
        this = guest.stream_of(request.id, guest.INPUT)
        out = self._in(TERMINAL, this) if tty else self._in(BULK, this + guest.OUTPUT)
        errors = None if tty else self._in(BULK, this + guest.ERRORS)
        into = self._out(port, this) if tty or stdin else None
        job = Job(request, out, errors, into, self)
        variables = {"PATH": PATH} if env is None else dict(env)
        try:
            self._say(
                CONTROL,
                guest.Exec(request.id, tuple(argv), variables, cwd, uid, gid, stdin, size, timeout_ms),
            )
            await request.started
        except BaseException:
            self._forget(request.id)
            raise
        return job

    async def file(
        self,
        op: str,
        path: str,
        *,
        uid: int = 0,
        gid: int = 0,
        mode: int | None = None,
        recursive: bool = False,
        to: str | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        """`stat`, `list`, `mkdir`, `remove` or `rename`; the guest's answer, which is hostile.

        Args:
            op: which.
            path: of what.
            uid: the user who does it.
            gid: and the group.
            mode: of what is made.
            recursive: with everything below it, or above it.
            to: of `rename`: the other name; only to an agent that has `rename` among its `capabilities`.
            after: of `list`: the name after which it begins; the same with `pages`.

        Raises:
            GuestError: it did not happen; `errno` says why.
        """
        request = self._request(CONTROL)
        self._say(CONTROL, guest.File(request.id, op, path, uid, gid, mode, recursive, to, after))  # type: ignore[arg-type]
        answer = await request.done
        assert isinstance(answer, guest.Result)
        return answer.value

    async def read_file(self, path: str, *, uid: int = 0, gid: int = 0) -> Job:
        """The file's content as `stdout` of a job; `result()` waits for how it went."""
        request = self._request(CONTROL)
        out = self._in(BULK, guest.stream_of(request.id, guest.OUTPUT))
        self._say(CONTROL, guest.File(request.id, "read", path, uid, gid, None, recursive=False))
        await request.started_or_done()
        return Job(request, out, None, None, self)

    async def write_file(self, path: str, *, mode: int | None = None, uid: int = 0, gid: int = 0) -> Job:
        """A job whose `stdin` becomes the file's content when it is ended; `result()` waits for that."""
        request = self._request(CONTROL)
        into = self._out(BULK, guest.stream_of(request.id, guest.INPUT))
        self._say(CONTROL, guest.File(request.id, "write", path, uid, gid, mode, recursive=False))
        await request.started_or_done()
        return Job(request, None, None, into, self)

    async def lifecycle(self, what: type[guest.Sync | guest.Shutdown | guest.Reboot]) -> None:
        """Returns when the agent has done it: file systems are written; the machine is about to end or start again."""
        request = self._request(LIFECYCLE)
        self._say(LIFECYCLE, what(request.id))
        await request.done

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was asked for and `thaw` was not."""
        return self._held is not None

    async def freeze(self) -> None:
        """Returns when everything that was asked to run stands still, and both sides of every port are between frames.

        What is sent from then on waits for `thaw`.

        Raises:
            GuestError: it does not stand still; then it runs on.
        """
        if self._held is not None:
            raise MachineError("the machine is frozen already", next_step="wait for it")
        asked = []
        # Lifecycle first: it is where the agent says why it cannot.
        for port in (LIFECYCLE, *(one for one in self._ports if one != LIFECYCLE)):
            request = self._request(port)
            self._say(port, guest.Freeze(request.id))
            asked.append(request)
        self._held = []
        try:
            for request in asked:
                await request.done
        except GuestError:
            await self.thaw(time.time_ns())
            raise

    async def thaw(self, wall_clock_ns: int) -> None:
        """It runs on; the clock is set before."""
        held, self._held = self._held or [], None
        self.thaws += 1
        request = self._request(LIFECYCLE)
        self._say(LIFECYCLE, guest.Thaw(request.id, wall_clock_ns))
        for port, data in held:
            self._ports[port].send(data)
        await request.done

    async def watch(self, *, processes: bool = False, changes: Sequence[str] = ()) -> None:
        """What the guest is to tell `reports` from now on, in place of what it did.

        Args:
            processes: programs that start and end.
            changes: directories; what changes in them and below.

        Raises:
            GuestError: it cannot.
        """
        request = self._request(LIFECYCLE)
        self._say(LIFECYCLE, guest.Watch(request.id, processes, tuple(changes)))
        await request.done

    async def prefetch(self, paths: Sequence[str]) -> None:
        """Returns when the guest has read what is there of these files; nothing is run."""
        request = self._request(LIFECYCLE)
        self._say(LIFECYCLE, guest.Prefetch(request.id, tuple(paths)))
        await request.done

    def signal(self, job: int, number: int) -> None:
        """Sends a signal to a job's process group."""
        self._say(CONTROL, guest.Signal(job, number))

    def resize(self, job: int, rows: int, columns: int) -> None:
        """Sets the size of a job's terminal."""
        self._say(CONTROL, guest.Resize(job, rows, columns))

    def reset(self, port: int, stream: int) -> None:
        """Ends a stream in both directions."""
        self._send(port, Reset(stream))
        self._end_stream(port, stream, StreamResetError("the stream was reset from this side"))

    def answer(self, stream: GuestStream, refused: str | None) -> None:
        """Lets a stream of the guest go on, or refuses it for a reason."""
        if stream.over:
            return
        if refused is None:
            stream.accepted = True
            self._say(stream.port, guest.Opened(stream.number))
        else:
            self._say(stream.port, guest.Refused(stream.number, refused[:4096]))
            self._end_stream(stream.port, stream.number, StreamResetError(refused))

    # --- what the agent says --------------------------------------------------------------------------------------

    def take(self, port: int, untrusted: Frame) -> None:
        """One frame of the guest.

        Raises:
            FrameError: it is not what a guest may send now.
        """
        if isinstance(untrusted, Message):
            self._message(port, guest.decode(port, untrusted))
            return
        if port not in WINDOWS:
            raise FrameError(f"a stream on port {port}, which has none")
        key = (port, untrusted.stream)
        self._was_there(*key)
        incoming, outgoing = self._incoming.get(key), self._outgoing.get(key)
        if isinstance(untrusted, Data) and incoming is not None:
            self._was_let_in(*key)
            incoming.feed(untrusted.content)
        elif isinstance(untrusted, End) and incoming is not None:
            incoming.finish()
            self._settle(*key)
        elif isinstance(untrusted, Credit) and outgoing is not None:
            outgoing.credit(untrusted.amount)
        elif isinstance(untrusted, Reset) and (incoming is not None or outgoing is not None):
            self._end_stream(*key, StreamResetError("the guest has reset the stream"))
        else:
            self._ports[port].drop()

    def _was_let_in(self, port: int, stream: int) -> None:
        waiting = self._guest_streams.get((port, stream))
        if waiting is not None and not waiting.accepted:
            raise FrameError(f"data on stream {stream} of port {port} before it was let in")

    def _was_there(self, port: int, stream: int) -> None:
        if port in self._guest_last:
            known = stream <= self._guest_last[port]
        else:
            known = 1 <= stream // 4 <= self._last and stream % 4 < (1 if port == TERMINAL else 3)
        if not known:
            raise FrameError(f"a frame of stream {stream} of port {port}, which never was")

    def _message(self, port: int, said: guest.GuestMessage) -> None:
        if isinstance(said, guest.Hello):
            if self._hello is None or self._hello.done() or self._ready is not None:
                raise FrameError("hello out of its place")
            self._hello.set_result(said)
        elif isinstance(said, guest.Ready):
            if self._ready is None or self._ready.done():
                raise FrameError("ready without an identity")
            self._ready.set_result(said)
        elif isinstance(said, guest.Fault):
            raise MachineError(
                f"the machine's agent says on port {port}: {said.reason}",
                next_step="delete the machine and create another",
            )
        elif isinstance(said, guest.Open):
            self._open(port, said)
        elif isinstance(said, guest.Report):
            self.reports.put(said)
        else:
            request = self._requests.get(said.id)
            if request is None or request.port != port:
                raise FrameError(f"port {port}: an answer to {said.id}, which was not asked or was answered")
            if request.take(said):
                del self._requests[said.id]
                self._concluded(said)

    def _hear(self, more: bool) -> None:
        port = self._ports[LIFECYCLE]
        port.release("reports") if more else port.hold("reports")

    def _concluded(self, said: guest.GuestMessage) -> None:
        # A job that never started has no streams; one that ended takes no more input.
        if isinstance(said, guest.Failed):
            self._forget(said.id)

    def _open(self, port: int, said: guest.Open) -> None:
        if said.stream <= self._guest_last[port]:
            raise FrameError(f"port {port}: stream {said.stream} opened after {self._guest_last[port]}")
        if len(self._guest_streams) >= 2 * _GUEST_STREAMS:
            raise FrameError("more streams of the guest than it may have")
        if self.opened.qsize() >= 2 * _GUEST_STREAMS:
            # The guest may give up what nobody has taken yet, and open others: those over count no more.
            waiting = [self.opened.get_nowait() for _ in range(self.opened.qsize())]
            for one in waiting:
                if not one.over:
                    self.opened.put_nowait(one)
        self._guest_last[port] = said.stream
        flows = (self._in(port, said.stream), self._out(port, said.stream))
        stream = GuestStream(port, said, flows, self)
        self._guest_streams[port, said.stream] = stream
        self.opened.put_nowait(stream)

    # --- streams --------------------------------------------------------------------------------------------------

    def _in(self, port: int, stream: int) -> Incoming:
        flow = Incoming(stream, WINDOWS[port], lambda frame: self._send(port, frame))
        self._incoming[port, stream] = flow
        return flow

    def _out(self, port: int, stream: int) -> Outgoing:
        def send(frame: Frame) -> None:
            self._send(port, frame)
            if isinstance(frame, End):
                self._settle(port, stream)

        flow = Outgoing(stream, WINDOWS[port], send, lambda: self._ports[port].drained)
        self._outgoing[port, stream] = flow
        return flow

    def _settle(self, port: int, stream: int) -> None:
        """Forgets a stream of the guest whose two directions are over, and one direction of a job's."""
        key = (port, stream)
        incoming, outgoing = self._incoming.get(key), self._outgoing.get(key)
        if incoming is not None and not incoming.over:
            return
        if outgoing is not None and not outgoing.over and port != TERMINAL:
            return
        self._incoming.pop(key, None)
        if outgoing is None or outgoing.over:
            self._outgoing.pop(key, None)
            self._guest_streams.pop(key, None)

    def _end_stream(self, port: int, stream: int, error: Exception) -> None:
        if incoming := self._incoming.pop((port, stream), None):
            incoming.fail(error)
        if outgoing := self._outgoing.pop((port, stream), None):
            outgoing.fail(error)
        if gone := self._guest_streams.pop((port, stream), None):
            gone.over = True

    def _forget(self, job: int) -> None:
        for which in range(3):
            for port in (BULK, TERMINAL):
                self._end_stream(port, guest.stream_of(job, which), StreamResetError("the job is not there"))

    def _request(self, port: int) -> Request:
        if self._error is not None:
            raise self._error
        if port not in self._ports:
            raise MachineError(f"this machine has no port {port}", next_step="start it with all its ports")
        self._last += 1
        request = Request(self._last, port)
        self._requests[request.id] = request
        return request

    def _say(self, port: int, said: guest.HostMessage) -> None:
        if self._error is not None:
            raise self._error
        self._out_of(port, guest.encode(said))

    def _send(self, port: int, frame: Frame) -> None:
        with contextlib.suppress(KeyError):
            self._out_of(port, encode_frame(frame))

    def _out_of(self, port: int, data: bytes) -> None:
        if self._held is None:
            self._ports[port].send(data)
        else:
            self._held.append((port, data))
