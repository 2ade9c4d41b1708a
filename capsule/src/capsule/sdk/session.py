"""One supervisor with one warm worker inside its sandbox, as the program sees them.

Owns a native process and the control connection to it; every call takes a lane (a socket pair of its own), so
threads share nothing but a list of free lanes, and closing a lane is cancelling its call. When the connection
ends, by `close`, by the interpreter's exit or by SIGKILL, the supervisor kills the sandbox.

Refuses to be used by a forked copy of the process that made it: the copy drops its descriptors at the fork.

    session = Session.start(request, place, cwd)
    answer = session.exchange({"kind": "run", …}, body, limit)
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from capsule.errors import SandboxError
from capsule.sandbox import launcher
from capsule.sdk import inside, raised, wire
from capsule.sdk.locate import Target
from capsule.sdk.values import encode

START_SECONDS: Final = 30.0
"""How long a sandbox may take to start, and a module to be imported in it."""
_END_SECONDS: Final = 5.0
_REPORT_LIMIT: Final = 16 << 20
_ROOM: Final = 256 << 10
"""Bytes of an answer beyond its body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the supervisor said about a call: its words, and the worker's bytes, still hostile."""

    envelope: dict[str, Any]
    untrusted_body: bytes

    @property
    def last(self) -> bool:
        """Whether the sandbox is on its way down: whoever calls next needs another one."""
        told = self.envelope
        return "ended" in {told.get("kind"), told.get("outcome")} or told.get("replaced") is True


class Session:
    """See the module."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.process = process
        self.control = control
        self.pid = os.getpid()
        self.report: bytes | None = None
        self._lanes: list[socket.socket] = []
        self._all: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._loaded: set[tuple[str, str]] = set()
        self._loading = threading.Lock()
        self._closed = False
        self._lost = False
        _SESSIONS.add(self)

    @classmethod
    def start(cls, request: launcher.Request, place: inside.Place, cwd: str | None) -> Session:
        """Start a sandbox with a worker in it and wait until it is ready.

        Raises:
            SandboxError: it was refused, or did not get ready in time.
        """
        ours, theirs = socket.socketpair()
        worker = Path(__file__).with_name("worker.py").resolve()
        interpreter = [sys.executable, "-I", "-B", *(["-O"] * sys.flags.optimize), str(worker)]
        with theirs:
            line = launcher.command(request, interpreter, "--control-fd", str(theirs.fileno()), "--worker")
            process = (
                subprocess.Popen(  # what tools print goes to standard error, never among the program's output
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=_standard_error(),
                    pass_fds=[theirs.fileno()],
                    cwd=cwd,
                )
            )
        session = cls(process, ours)
        try:
            ours.settimeout(START_SECONDS)
            start = {"path": [str(Path(entry).absolute()) for entry in sys.path], "policy": place.policy}
            ours.sendall(
                wire.pack({"kind": "start"}, encode(start | {"tool": place.tool, "tools": [*place.tools]}))
            )
            envelope, body = wire.receive(ours, _REPORT_LIMIT)
        except (wire.WireError, OSError) as error:
            session.close(now=True)
            why = "it did not get ready in time" if isinstance(error, TimeoutError) else str(error)
            raise SandboxError(f"the sandbox did not start: {why}", next_step=session.advice()) from None
        if envelope.get("kind") != "started":
            session.report = body
            session.close(now=True)
            raise SandboxError(f"the sandbox did not start: {session.cause()}", next_step=session.advice())
        ours.setblocking(False)
        return session

    def exchange(self, envelope: dict[str, object], body: bytes, limit: int) -> Answer:
        """Send one request and wait for its answer.

        Raises:
            SandboxError: the sandbox has gone.
        """
        lane = self._take()
        done = False
        try:
            lane.sendall(wire.pack(envelope, body))
            answer = Answer(*wire.receive(lane, 2 * limit + _ROOM))
            done = answer.envelope.get("kind") != "ended"
        except (wire.WireError, OSError) as error:
            raise self._gone(error) from None
        finally:
            self._give(lane, done)
        return self._checked(answer)

    async def exchange_async(self, envelope: dict[str, object], body: bytes, limit: int) -> Answer:
        """The same, without blocking the running loop; cancelling it cancels the call."""
        loop = asyncio.get_running_loop()
        lane = self._take()
        done = False
        try:
            lane.setblocking(False)
            await loop.sock_sendall(lane, wire.pack(envelope, body))
            answer = await _receive_async(loop, lane, 2 * limit + _ROOM)
            lane.setblocking(True)
            done = answer.envelope.get("kind") != "ended"
        except (wire.WireError, OSError) as error:
            raise self._gone(error) from None
        finally:
            self._give(lane, done)
        return self._checked(answer)

    def load(self, target: Target) -> None:
        """Have the worker import what `target` needs, once.

        Raises:
            NotCallableInsideError, ImportError, or whatever the module raised while it was imported.
        """
        key = (target.module, target.qualname)
        if key in self._loaded:
            return
        with self._loading:
            if key in self._loaded:
                return
            request = encode({"module": target.module, "file": target.file, "qualname": target.qualname})
            answer = self.exchange({"kind": "load"}, request, raised.MAX_TEXT * 8)
            if answer.envelope["kind"] == "failed":
                error = raised.rebuild(answer.untrusted_body)
                error.add_note(
                    f"capsule: while {target.module}:{target.qualname} was looked up inside the sandbox"
                )
                raise error
            self._loaded.add(key)

    def loaded(self, target: Target) -> bool:
        """Whether `load` has nothing to do."""
        return (target.module, target.qualname) in self._loaded

    @property
    def usable(self) -> bool:
        """Whether calls can still be made from this process."""
        if self._closed or self._lost or self.pid != os.getpid():
            return False
        poll = select.poll()  # one of its own: a poll object serves one thread at a time
        poll.register(self.control, select.POLLIN)
        return not poll.poll(0)

    def close(self, *, now: bool = False) -> None:
        """End the sandbox, in order unless `now`, and reap the supervisor."""
        with self._lock:
            if self._closed or self.pid != os.getpid():
                return
            self._closed = True
            lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.close()
        with contextlib.suppress(wire.WireError, OSError):
            if not now:
                self.control.settimeout(_END_SECONDS)
                self.control.sendall(wire.pack({"kind": "close"}))
                while self.report is None:
                    envelope, body = wire.receive(self.control, _REPORT_LIMIT)
                    if envelope.get("kind") == "ended":
                        self.report = body
        self.control.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        _SESSIONS.discard(self)

    def abandon(self) -> None:
        """In a forked copy: let go of everything without ending what belongs to the original."""
        self._closed = True
        for lane in list(self._all):
            lane.close()
        self.control.close()
        self.process.returncode = 0

    def cause(self) -> str:
        """Why the sandbox ended, from its report when there is one."""
        if self.report:
            from capsule.sdk.result import RunResult

            result = RunResult.from_report(self.report)
            return result.exit.reason or result.exit.cause
        return f"the supervisor exited with {self.process.returncode}"

    def advice(self) -> str:
        """What to do about a sandbox that did not start."""
        return "read what it wrote to standard error, or run `capsule doctor`"

    def _take(self) -> socket.socket:
        if self.pid != os.getpid():
            raise SandboxError(
                "this sandbox belongs to another process: it was made before a fork",
                next_step="make a new one in this process",
            )
        with self._lock:
            if self._closed:
                raise SandboxError("the sandbox is closed", next_step="make a new one")
            if self._lanes:
                return self._lanes.pop()
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    socket.send_fds(self.control, [wire.pack({"kind": "lane"})], [theirs.fileno()])
                except OSError as error:
                    ours.close()
                    raise self._gone(error) from None
            self._all.add(ours)
            return ours

    def _give(self, lane: socket.socket, done: bool) -> None:
        if done and not self._closed:
            self._lanes.append(lane)
        else:
            lane.close()

    def _gone(self, error: Exception) -> SandboxError:
        # Whoever calls next gets another one, also where this one is still on its way down.
        self._lost = self._lost or isinstance(error, ConnectionError | wire.WireError)
        why = (isinstance(error, OSError) and error.strerror) or error
        return SandboxError(
            f"the sandbox has gone: {why}", next_step="read its log, and call again for a new one"
        )

    def _checked(self, answer: Answer) -> Answer:
        self._lost = self._lost or answer.last
        if answer.envelope.get("kind") == "ended":
            reason = answer.envelope.get("reason", "")
            raise SandboxError(f"the sandbox has ended: {reason}", next_step="call again for a new one")
        return answer


async def _receive_async(loop: asyncio.AbstractEventLoop, lane: socket.socket, limit: int) -> Answer:
    data = bytearray(await loop.sock_recv(lane, 65536))
    wanted = wire.HEADER
    while True:
        if len(data) >= wire.HEADER:
            wanted = wire.HEADER + wire.length(bytes(data[: wire.HEADER]), limit)
            if len(data) >= wanted:
                break
        chunk = await loop.sock_recv(lane, 1 << 20) if data else b""
        if not chunk:
            raise wire.WireError("the connection ended")
        data += chunk
    if len(data) > wanted:
        raise wire.WireError("more than one frame where one was due")
    return Answer(*wire.split(bytes(data[wire.HEADER :])))


def _standard_error() -> int:
    """A descriptor for what tools print: the real standard error, or nothing when there is none."""
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


_SESSIONS: set[Session] = set()


def _close_all() -> None:
    for session in list(_SESSIONS):
        session.close()


def _abandon_all() -> None:
    for session in list(_SESSIONS):
        session.abandon()
    _SESSIONS.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_abandon_all)
