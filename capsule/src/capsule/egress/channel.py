"""One end of the session socket: bytes and descriptors in, frames out, both without waiting.

Refuses more descriptors than a session has, descriptors cut off by the kernel, and a peer that does not read:
what is kept for it is bounded by `LIMIT`, then the session ends rather than an entry being dropped.

    channel = Channel(sock, on_frame=session.frame, on_end=session.end)
    channel.start()
    channel.send({"type": "ready", "rules": 0, "problems": []})
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable

from capsule.egress.frames import Frame, FrameError, FrameReader, encode

LIMIT = 64 << 20
"""Bytes kept for a supervisor that does not read."""
CROWDED = 1 << 20
"""Bytes from which on new work waits (`Channel.room`)."""
_PIECE = 128 << 10  # bytes of one send
_DESCRIPTORS = 253  # the kernel's limit on one message, SCM_MAX_FD
_ANCILLARY = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)


class Channel:
    """Frames over a connected Unix socket."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_frame: Callable[[Frame, list[int]], None],
        on_end: Callable[[str], None],
        on_last: Callable[[], None] | None = None,
    ) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._on_frame = on_frame
        self._on_end = on_end
        self._on_last = on_last
        self._out: deque[bytes] = deque()
        self._waiting = 0
        self._descriptors: list[int] = []
        self._closed = False
        self._scheduled = False
        self._writing = False
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._empty = asyncio.Event()
        self._empty.set()

    def start(self) -> None:
        """Begins to read."""
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def send(self, message: object) -> None:
        """Queues one frame; after the end of the session it goes nowhere."""
        if self._closed:
            return
        data = encode(message)
        self._waiting += len(data)
        self._out.append(data)
        self._empty.clear()
        if self._waiting > LIMIT:
            self.close("the supervisor does not read what is recorded")
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._writable)

    async def room(self) -> None:
        """Waits while the supervisor lags behind by more than `CROWDED`."""
        await self._roomy.wait()

    async def drained(self, seconds: float) -> None:
        """Waits until everything is sent, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()

    @property
    def crowded(self) -> bool:
        """Whether `room` would wait."""
        return not self._roomy.is_set()

    def close(self, reason: str) -> None:
        """Ends the session, once."""
        if self._closed:
            return
        if self._out:
            with contextlib.suppress(OSError):
                self._sock.send(b"".join(self._out))  # what was decided before the end is still told
        self._closed = True
        self._roomy.set()
        self._empty.set()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._drop_descriptors()
        self._on_end(reason)

    def _writable(self) -> None:
        """Sends what is queued, as much in one call as the socket takes."""
        while self._out and not self._closed:
            data = self._out.popleft()
            if self._out:
                parts, size = [data], len(data)
                while self._out and size < _PIECE:
                    parts.append(self._out.popleft())
                    size += len(parts[-1])
                data = b"".join(parts)
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.close(f"the supervisor is gone: {error.strerror}")
                return
            self._waiting -= sent
            if sent < len(data):
                self._out.appendleft(data[sent:])
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._sock.fileno(), self._writable)
                if self._waiting > CROWDED:
                    self._roomy.clear()
                return
        if self._closed:
            return
        self._scheduled = False
        self._roomy.set()
        self._empty.set()
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(1 << 16, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"the supervisor is gone: {error.strerror}")
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._descriptors += numbers
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > _DESCRIPTORS:
            self.close("more descriptors than a session has")
            return
        if not data:
            if self._reader.midway or self._on_last is None:
                self.close("cut off in a frame" if self._reader.midway else "the run is over")
            else:  # the supervisor said all, and still listens
                self._loop.remove_reader(self._sock.fileno())
                self._on_last()
            return
        try:
            for frame in self._reader.feed(data):
                taken, self._descriptors = self._descriptors, []
                self._on_frame(frame, taken)
                if self._closed:
                    return
        except FrameError as error:
            self.close(error.message)

    def _drop_descriptors(self) -> None:
        for number in self._descriptors:
            os.close(number)
        self._descriptors = []
