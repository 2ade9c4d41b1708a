"""One end of the socket between a monitor and its proxy: messages and descriptors, both without waiting.

Refuses frames that are no messages, descriptors beyond a few, and a peer that does not read: what is kept for it is
bounded, then the connection ends. Descriptors that nobody took are closed.

    handover = Handover(sock, on_message=proxy.heard, on_end=proxy.over)
    handover.start()
    handover.send(encode(Noted(1)))
    handover.send(encode(Dialled(2, "192.0.2.1:443", None)), [sock.detach()])
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from capsem.errors import CapsemError, WireError
from capsem.wire.frame import FrameReader, Message

LIMIT = 32 << 20
"""Bytes kept for a peer that does not read."""
CROWDED = 1 << 20
"""Bytes from which on new work waits (`room`)."""
DESCRIPTORS = 16
"""Of messages that have not come yet."""
_CHUNK = 1 << 17


class Handover:
    """Messages over a connected Unix socket."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_message: Callable[[Message], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._sock = sock
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._on_message = on_message
        self._on_end = on_end
        self._out: deque[tuple[bytes, list[int]]] = deque()
        self._waiting = 0
        self._came: deque[int] = deque()
        self._writing = self._paused = self._closed = False
        self._held: deque[Message] = deque()
        self._roomy = asyncio.Event()
        self._roomy.set()

    def start(self) -> None:
        """Begins to read."""
        self._loop.add_reader(self._sock.fileno(), self._readable)

    @property
    def crowded(self) -> bool:
        """Whether `room` would wait."""
        return not self._roomy.is_set()

    async def room(self) -> None:
        """Waits while the peer lags behind by more than `CROWDED`."""
        await self._roomy.wait()

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Queues one frame; its descriptors are ours to close from here on."""
        if self._closed:
            for number in descriptors:
                os.close(number)
            return
        self._out.append((data, list(descriptors)))
        self._waiting += len(data)
        if self._waiting > CROWDED:
            self._roomy.clear()
        if self._waiting > LIMIT:
            self.close("the other side does not read")
        elif not self._writing:
            self._write()

    def take(self) -> int:
        """The next descriptor that came; it is the caller's to close.

        Raises:
            WireError: none came.
        """
        if not self._came:
            raise WireError("a message without its descriptor", next_step="report this")
        return self._came.popleft()

    def pause(self) -> None:
        """Hears nothing until `resume`: the other side has to wait."""
        if not self._paused and not self._closed:
            self._paused = True
            self._loop.remove_reader(self._sock.fileno())

    def resume(self) -> None:
        """Hears again."""
        if not self._paused or self._closed:
            return
        self._paused = False
        self._hear()
        if not self._paused and not self._closed:
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self, reason: str) -> None:
        """Ends it, once."""
        if self._closed:
            return
        self._closed = True
        self._roomy.set()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for number in [*self._came, *(number for _, numbers in self._out for number in numbers)]:
            os.close(number)
        self._came.clear()
        self._out.clear()
        self._on_end(reason)

    def _write(self) -> None:
        while self._out:
            data, descriptors = self._out[0]
            try:
                sent = (
                    socket.send_fds(self._sock, [data], descriptors) if descriptors else self._sock.send(data)
                )
            except BlockingIOError:
                break
            except OSError as error:
                self.close(f"the other side is gone: {error.strerror}")
                return
            for number in descriptors:
                os.close(number)
            self._waiting -= sent
            if sent == len(data):
                self._out.popleft()
            else:
                self._out[0] = (data[sent:], [])
        if bool(self._out) != self._writing:
            self._writing = bool(self._out)
            if self._writing:
                self._loop.add_writer(self._sock.fileno(), self._write)
            else:
                self._loop.remove_writer(self._sock.fileno())
        (self._roomy.clear if self._waiting > CROWDED else self._roomy.set)()

    def _readable(self) -> None:
        space = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(_CHUNK, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"the other side is gone: {error.strerror}")
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._came += numbers
        if flags & socket.MSG_CTRUNC or len(self._came) > DESCRIPTORS:
            self.close("more descriptors than there are messages for them")
            return
        if not data:
            self.close("the other side has hung up")
            return
        try:
            for frame in self._reader.feed(data):
                if not isinstance(frame, Message):
                    raise WireError("a frame that is no message", next_step="report this")
                self._held.append(frame)
        except CapsemError as error:
            self.close(error.message)
            return
        self._hear()

    def _hear(self) -> None:
        while self._held and not self._paused and not self._closed:
            try:
                self._on_message(self._held.popleft())
            except CapsemError as error:
                self.close(error.message)
