"""Bytes of a connection that is not inspected, moved between two sockets inside the kernel.

Half-closes are passed on, a slow side holds back the other, an idle connection ends. Refuses nothing: what may pass was
decided before. `splice(2)` through a pipe keeps the bytes out of this process.

    out, back = await pass_through(inside, outside, first=hello, idle=600)
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable

PIPE = 1 << 20
"""Bytes a pipe of a busy direction holds (the kernel's limit for an ordinary user)."""
BUSY = 1 << 18
"""Bytes after which a direction counts as busy."""
_TURN = 8 << 20  # bytes moved before other connections have their turn
_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


Spend = Callable[[int], tuple[int, str | None]]
"""Told of bytes before they go on; how many may, and a reason that then ends the connection."""


class _Direction:
    """One way of a connection."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, done: Callable[[], None], spend: Spend | None
    ) -> None:
        self.source = source
        self.sink = sink
        self.moved = 0
        self.finished = False
        self.error: OSError | None = None
        self._loop = asyncio.get_running_loop()
        self._inlet, self._outlet = self._pipe()
        self._inside = 0
        self._ended = False
        self._grown = False
        self._done = done
        self._spend = spend
        self._cut: OSError | None = None
        self._reading: bool | None = None

    @staticmethod
    def _pipe() -> tuple[int, int]:
        outlet, inlet = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        return inlet, outlet

    def start(self) -> None:
        self._wait(reading=True)

    def move(self) -> None:
        """Fills and empties the pipe until a side has to wait."""
        until = self.moved + _TURN
        try:
            while self.moved < until:
                if self._inside == 0:
                    if self._ended:
                        self._finish(None)
                        return
                    try:
                        count = os.splice(self.source.fileno(), self._inlet, PIPE, flags=_FLAGS)
                    except BlockingIOError:
                        self._wait(reading=True)
                        return
                    if count == 0:
                        self._ended = True
                        continue
                    self._inside, reason = (count, None) if self._spend is None else self._spend(count)
                    if reason is not None:
                        self._cut = OSError(0, reason)
                if self._inside == 0 and self._cut is not None:
                    raise self._cut
                try:
                    count = os.splice(self._outlet, self.sink.fileno(), self._inside, flags=_FLAGS)
                except BlockingIOError:
                    self._wait(reading=False)
                    return
                self._inside -= count
                self.moved += count
                if self._inside == 0 and self._cut is not None:
                    raise self._cut
                if not self._grown and self.moved > BUSY:
                    self._grow()
        except OSError as error:
            self._finish(error)
            return
        self._wait(reading=self._inside == 0)

    def _grow(self) -> None:
        self._grown = True
        with contextlib.suppress(
            PermissionError
        ):  # the user's pipes hold all they may: the small one works too
            fcntl.fcntl(self._inlet, fcntl.F_SETPIPE_SZ, PIPE)

    def _wait(self, *, reading: bool) -> None:
        if reading is self._reading:
            return
        self._reading = reading
        if reading:
            self._loop.remove_writer(self.sink.fileno())
            self._loop.add_reader(self.source.fileno(), self.move)
        else:
            self._loop.remove_reader(self.source.fileno())
            self._loop.add_writer(self.sink.fileno(), self.move)

    def _finish(self, error: OSError | None) -> None:
        self.stop()
        self.error = error
        if error is None:
            with contextlib.suppress(OSError):  # the other side is gone already
                self.sink.shutdown(socket.SHUT_WR)
        self._done()

    def stop(self) -> None:
        """Takes the direction off the loop; its pipe is closed."""
        if self.finished:
            return
        self.finished = True
        self._loop.remove_reader(self.source.fileno())
        self._loop.remove_writer(self.sink.fileno())
        os.close(self._inlet)
        os.close(self._outlet)


async def pass_through(
    inside: socket.socket, outside: socket.socket, *, first: bytes, idle: float, spend: Spend | None = None
) -> tuple[int, int, str | None]:
    """Moves bytes both ways until both have ended, one failed, or nothing moved for `idle` seconds.

    Both sockets are non-blocking and stay the caller's to close. `first` is what was read from inside already.

    Returns:
        bytes out (with `first`), bytes in, and what went wrong, if anything.
    """
    loop = asyncio.get_running_loop()
    if first:
        fits, reason = (len(first), None) if spend is None else spend(len(first))
        await loop.sock_sendall(outside, first[:fits])
        if reason is not None:
            return fits, 0, reason
    over = loop.create_future()

    def done() -> None:
        failed = out.error or back.error
        if not over.done() and (failed is not None or (out.finished and back.finished)):
            over.set_result(failed)

    # A socket is waited for in each of two directions: reading by one, writing by the other.
    out, back = _Direction(inside, outside, done, spend), _Direction(outside, inside, done, spend)
    problem: str | None = None
    try:
        out.start()
        back.start()
        moved, since = -1, time.monotonic()
        while not over.done():
            await asyncio.wait([over], timeout=min(idle, 5.0))
            now = time.monotonic()
            if out.moved + back.moved != moved:
                moved, since = out.moved + back.moved, now
            elif now - since >= idle:
                problem = f"nothing moved for {idle:.0f} s"
                break
        if over.done() and over.result() is not None:
            problem = over.result().strerror
    finally:
        out.stop()
        back.stop()
    return len(first) + out.moved, back.moved, problem
