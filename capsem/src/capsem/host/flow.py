"""One stream of a machine's agent, either way, under its window (docs/formats/wire.md).

What waits here is bounded by the window: a guest that sends more has broken the form (`FrameError`). Refuses to write
after the end, and to a stream that the guest has reset.

    async for chunk in job.stdout:               # Incoming
        ...
    await job.stdin.write(b"text")               # Outgoing: waits until the guest has room
    job.stdin.end()
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Callable

from capsem.wire.frame import Credit, Data, End, Frame, FrameError

CHUNK = 128 << 10
"""Bytes of one data frame that this side sends."""


SMALL = 4 << 10
"""Bytes up to which what comes is put to what waits: of many little frames each would cost more than is in it."""


class StreamResetError(ConnectionResetError):
    """The guest has ended the stream in both directions."""


class Incoming:
    """From the guest. Iterate, or `read`; taking is what gives the guest room for more."""

    def __init__(self, stream: int, window: int, send: Callable[[Frame], None]) -> None:
        self._stream = stream
        self._window = window
        self._send = send
        self._chunks: collections.deque[bytes] = collections.deque()
        self._held = 0
        self._owed = 0
        self._over = False
        self._error: Exception | None = None
        self._change = asyncio.Event()

    def feed(self, untrusted_content: bytes) -> None:
        """What the guest sent.

        Raises:
            FrameError: it is more than the window, or comes after the end.
        """
        if self._over:
            raise FrameError(f"data on stream {self._stream} after its end")
        self._held += len(untrusted_content)
        if self._held + self._owed > self._window:
            raise FrameError(f"more than the window of {self._window} bytes on stream {self._stream}")
        if self._error is None:
            if self._chunks and max(len(self._chunks[-1]), len(untrusted_content)) < SMALL:
                self._chunks[-1] += untrusted_content
            else:
                self._chunks.append(untrusted_content)
            self._change.set()

    def finish(self) -> None:
        """The guest sends no more.

        Raises:
            FrameError: it said so before.
        """
        if self._over:
            raise FrameError(f"a second end of stream {self._stream}")
        self._over = True
        self._change.set()

    def fail(self, error: Exception) -> None:
        """Readers get what has come, then the error, unless the end had come first."""
        if not self._over and self._error is None:
            self._error = error
            self._change.set()

    @property
    def over(self) -> bool:
        """Whether the guest will send no more."""
        return self._over or self._error is not None

    async def read(self) -> bytes:
        """The next bytes, as they came; empty at the end.

        Raises:
            StreamResetError: the guest ended it otherwise.
            CapsemError: the channel is gone.
        """
        while not self._chunks:
            if self._over:
                return b""
            if self._error is not None:
                raise self._error
            self._change.clear()
            await self._change.wait()
        chunk = self._chunks.popleft()
        self._held -= len(chunk)
        self._owed += len(chunk)
        # A quarter of the window at a time: credit for every chunk would double the frames.
        if self._owed >= self._window // 4 and not self.over:
            self._send(Credit(self._stream, self._owed))
            self._owed = 0
        return chunk

    async def read_all(self, limit: int) -> bytes:
        """Everything until the end.

        Raises:
            ValueError: it is more than `limit` bytes.
        """
        whole = bytearray()
        while chunk := await self.read():
            whole += chunk
            if len(whole) > limit:
                raise ValueError(f"more than {limit} bytes")
        return bytes(whole)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk


class Outgoing:
    """To the guest."""

    def __init__(
        self, stream: int, window: int, send: Callable[[Frame], None], drained: Callable[[], asyncio.Event]
    ) -> None:
        self._stream = stream
        self._window = window
        self._credit = window
        self._send = send
        self._drained = drained
        self._ended = False
        self._error: Exception | None = None
        self._change = asyncio.Event()

    def credit(self, untrusted_amount: int) -> None:
        """The guest has taken bytes.

        Raises:
            FrameError: more than were on the way.
        """
        if self._credit + untrusted_amount > self._window:
            raise FrameError(
                f"a credit of {untrusted_amount} bytes on stream {self._stream}: more than was on the way"
            )
        self._credit += untrusted_amount
        self._change.set()

    def fail(self, error: Exception) -> None:
        """Writers get this error from now on."""
        if self._error is None:
            self._error = error
            self._change.set()

    @property
    def over(self) -> bool:
        """Whether nothing more can be written."""
        return self._ended or self._error is not None

    async def write(self, content: bytes) -> None:
        """Sends all of it, as the guest makes room.

        Raises:
            StreamResetError: the guest takes no more.
            CapsemError: the channel is gone.
            ValueError: `end` was called before, or while it waited for room.
        """
        if self._ended:
            raise ValueError("the stream was ended before")
        view = memoryview(content)
        while view:
            while self._credit == 0 and self._error is None and not self._ended:
                self._change.clear()
                await self._change.wait()
            if self._error is not None:
                raise self._error
            if self._ended:
                # Somebody else who writes here said so; a guest ends the machine over data after that.
                raise ValueError("the stream was ended meanwhile")
            size = min(self._credit, CHUNK, len(view))
            self._credit -= size
            self._send(Data(self._stream, bytes(view[:size])))
            view = view[size:]
            await self._drained().wait()

    def end(self) -> None:
        """Says that no more will come; once more does nothing."""
        ended, self._ended = self._ended, True
        # Whoever sends it looks whether the other direction is over too: then the stream is forgotten.
        if not ended and self._error is None:
            self._send(End(self._stream))
        self._change.set()
