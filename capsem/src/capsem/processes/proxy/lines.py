"""Bytes of one side of a conversation, as lines.

Refuses a line of more than `LINE` bytes.

    lines = Lines(stream.incoming.read)
    while (line := await lines.next()) is not None: …
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from capsem.wire.jsonrpc import LINE


class TooLongError(Exception):
    """A line that is longer than is looked at."""


class Lines:
    """Bytes as lines; an end without a line's end ends the last one."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._held = bytearray()
        self._looked = 0

    async def next(self) -> bytes | None:
        """The next one, without its end; None: there is no more.

        Raises:
            TooLongError: it has more than `LINE` bytes.
        """
        while (end := self._held.find(b"\n", self._looked)) < 0:
            self._looked = len(self._held)
            if len(self._held) > LINE:
                raise TooLongError
            piece = await self._read()
            if not piece:
                last, self._held, self._looked = bytes(self._held), bytearray(), 0
                return last or None
            self._held += piece
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        self._looked = 0
        return line
