"""Frames over a local stream socket, for both its ends.

Refuses a frame that is not of the documented form; who is at the other end `capsem.host.peer` tells.

    link = await connect(places.monitor_socket(machine))
    await link.send(encode(Info()))
    frame = await link.receive()             # None: the other side has hung up
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import struct
import termios
from pathlib import Path

from capsem.errors import MachineError
from capsem.host import places
from capsem.wire.frame import Frame, FrameReader

_CHUNK = 1 << 18
_PARTING_SECONDS = 5.0


class Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames: collections.deque[Frame] = collections.deque()
        self._untrusted = FrameReader()
        self._closing: asyncio.Task[None] | None = None

    async def receive(self) -> Frame | None:
        """The next frame; None when the other side has hung up.

        Raises:
            FrameError: it is not of the documented form.
        """
        while not self._frames:
            try:
                data = await self._reader.read(_CHUNK)
            except OSError:
                return None
            if not data:
                return None
            self._frames.extend(self._untrusted.feed(data))
        return self._frames.popleft()

    async def send(self, data: bytes) -> None:
        """Send, and wait while the other side lags. A side that has hung up takes nothing, which is no error here."""
        if self.lost:
            return  # asyncio would warn of every further write
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    @property
    def lost(self) -> bool:
        """Whether the other side was seen to have hung up; only sending finds out."""
        return self._writer.transport.is_closing()

    async def part(self) -> None:
        """Hang up after the last word, once the other side has done so, or has had its time.

        Who still sends into a connection that was closed gets an error, and loses with it what it has not read yet.
        """
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(_PARTING_SECONDS):
                while await self._reader.read(_CHUNK):
                    pass
        await self.close()

    def abort(self) -> None:
        """Hang up at once; what the other side has not read is lost, and who waits to send does not any more."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Hang up; the other side has what was sent, as long as it goes on taking it.

        One that was stopped, and takes nothing, would hold us for as long.
        """
        self._writer.close()
        if self._closing is None:
            self._closing = asyncio.create_task(self._closed())
        left = self._left()
        while not (await asyncio.wait({self._closing}, timeout=_PARTING_SECONDS))[0]:
            before, left = left, self._left()
            if left >= before:
                self.abort()

    async def _closed(self) -> None:
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _left(self) -> int:
        """Bytes that the other side has not taken: ours, and the kernel's as it counts them."""
        ours = self._writer.transport.get_write_buffer_size()
        with contextlib.suppress(OSError, ValueError):
            queued = fcntl.ioctl(self._writer.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4))
            ours += struct.unpack("i", queued)[0]
        return ours


async def connect(path: Path) -> Link:
    """A connection to a local socket of this user.

    Raises:
        MachineError: nobody listens there.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=_CHUNK)
    except OSError as error:
        raise unanswered(path, error) from error
    return Link(reader, writer)


def unanswered(path: Path, error: OSError) -> MachineError:
    """Why nobody listens at a machine's socket, as far as its directory tells."""
    machine = path.stem
    if places.is_id(machine) and isinstance(error, FileNotFoundError | ConnectionRefusedError):
        directory = places.session(machine)
        if not directory.is_dir():
            return MachineError(f"{machine} is gone", next_step="see capsem list")
        if places.suspended(directory).exists():
            return MachineError(
                f"{machine} is suspended", next_step=f"go on with it: capsem resume {machine}"
            )
        return MachineError(f"{machine} does not run", next_step=f"start it: capsem start {machine}")
    return MachineError(
        f"the machine's monitor does not answer at {path}: {error.strerror}", next_step="see capsem list"
    )
