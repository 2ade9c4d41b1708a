"""What a channel has asked of an agent and waits for: requests, jobs, and streams that the guest opened.

Refuses an answer of another kind than was asked for (`FrameError`), and a second one.

    job = await channel.exec(["make"], cwd="/workspace", timeout_ms=60_000)
    async for chunk in job.stdout: ...
    ended = await job.wait()                       # code or signal
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from capsem.errors import CapsemError
from capsem.host.flow import Incoming, Outgoing
from capsem.wire import guest
from capsem.wire.frame import FrameError
from capsem.wire.guest import BULK, TERMINAL


class GuestError(CapsemError):
    """The agent could not do what was asked; `errno` is the kernel's name for why (`ENOENT`)."""

    exit_code = 1

    def __init__(self, reason: str, errno: str) -> None:
        super().__init__(
            f"in the machine: {reason} ({errno})", next_step="see what the machine has: capsem exec"
        )
        self.errno = errno
        self.reason = reason


class _Asks(Protocol):
    """What a job needs of its channel."""

    def signal(self, job: int, number: int) -> None: ...
    def resize(self, job: int, rows: int, columns: int) -> None: ...
    def reset(self, port: int, stream: int) -> None: ...
    def answer(self, stream: GuestStream, refused: str | None) -> None: ...


class Request:
    """One id that was given out and its answers."""

    def __init__(self, number: int, port: int) -> None:
        self.id = number
        self.port = port
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[guest.Started] = loop.create_future()
        self.done: asyncio.Future[Any] = loop.create_future()
        """Pong, Done, Result or Exited; GuestError when it failed."""

    def take(self, said: guest.GuestMessage) -> bool:
        """Takes an answer; True when no other may come.

        Raises:
            FrameError: it answers something else.
        """
        if isinstance(said, guest.Started):
            if self.started.done() and not self.started.cancelled():
                raise FrameError(f"{self.id} started twice")
            if not self.started.done():
                self.started.set_result(said)
            return False
        if isinstance(said, guest.Exited) and not self.started.done():
            raise FrameError(f"{self.id} ended before it started")
        if isinstance(said, guest.Failed):
            self.fail(GuestError(said.reason, said.errno))
        elif not self.done.done():
            self.done.set_result(said)
        return True

    def fail(self, error: Exception) -> None:
        """Whoever waits gets the error; nobody need wait."""
        for future in (self.started, self.done):
            if not future.done():
                future.set_exception(error)
                future.exception()

    async def started_or_done(self) -> None:
        """Returns when it has begun, or is over already.

        Raises:
            GuestError: it failed.
        """
        await asyncio.wait((self.started, self.done), return_when=asyncio.FIRST_COMPLETED)
        if self.done.done():
            self.done.result()


class Job:
    """A program that runs in the guest, or the content of a file on its way."""

    def __init__(
        self,
        request: Request,
        stdout: Incoming | None,
        stderr: Incoming | None,
        stdin: Outgoing | None,
        asks: _Asks,
    ) -> None:
        self._request = request
        self._asks = asks
        self._stdout = stdout
        self._stderr = stderr
        self._stdin = stdin

    @property
    def id(self) -> int:
        """Its number on the wire."""
        return self._request.id

    @property
    def pid(self) -> int:
        """Its process in the guest, as the guest says."""
        return self._request.started.result().pid

    @property
    def stdout(self) -> Incoming:
        """Its output, or its terminal's."""
        assert self._stdout is not None, "this job has no output"
        return self._stdout

    @property
    def stderr(self) -> Incoming:
        """Its errors; a job with a terminal has none of its own."""
        assert self._stderr is not None, "this job has no errors of its own"
        return self._stderr

    @property
    def stdin(self) -> Outgoing:
        """Its input, where it was asked for."""
        assert self._stdin is not None, "this job has no input"
        return self._stdin

    async def wait(self) -> guest.Exited:
        """How it ended. Its output is whole when `stdout` and `stderr` have ended."""
        answer = await asyncio.shield(self._request.done)
        if not isinstance(answer, guest.Exited):
            raise FrameError(f"{self.id} is a program, and its answer another's")
        return answer

    async def result(self) -> dict[str, Any]:
        """The answer of a file operation.

        Raises:
            GuestError: it did not happen.
        """
        answer = await asyncio.shield(self._request.done)
        if not isinstance(answer, guest.Result):
            raise FrameError(f"{self.id} is a file operation, and its answer another's")
        return answer.value

    def signal(self, number: int) -> None:
        """To its process group."""
        self._asks.signal(self.id, number)

    def resize(self, rows: int, columns: int) -> None:
        """Its terminal's size."""
        self._asks.resize(self.id, rows, columns)

    def abandon(self) -> None:
        """Resets its streams: a file that was being written stays as it was, and nobody waits for more output."""
        this = guest.stream_of(self.id, guest.INPUT)
        for which, flow in enumerate((self._stdin, self._stdout, self._stderr)):
            if flow is None or flow.over:
                continue
            if self._stderr is None and self._stdin is not None and self._stdout is not None:
                self._asks.reset(TERMINAL, this)
                return
            self._asks.reset(BULK, this + which)


class GuestStream:
    """A connection that a program of the guest made; it waits for `accept` or `refuse`."""

    def __init__(self, port: int, opened: guest.Open, flows: tuple[Incoming, Outgoing], asks: _Asks) -> None:
        self.port = port
        self.number = opened.stream
        self.opened = opened
        self.incoming, self.outgoing = flows
        self.over = self.accepted = False
        self._asks = asks

    def accept(self) -> None:
        """It may go on."""
        self._asks.answer(self, None)

    def refuse(self, reason: str) -> None:
        """The program's connection is reset."""
        self._asks.answer(self, reason)

    def reset(self) -> None:
        """Ends it in both directions."""
        if not self.over:
            self._asks.reset(self.port, self.number)
