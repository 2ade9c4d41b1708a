r"""Server-sent events, as bytes come (WHATWG HTML, section 9.2.6). Sans I/O.

Refuses to hold more than `most` bytes of one event: such a stream is `overflown` and yields nothing more.

    stream = EventStream()
    stream.feed(b"event: ping\\ndata: {}\\n\\n")      # [Event("ping", "{}")]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_EVENT: Final = 4 << 20
"""Bytes of one event, its field names included."""
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event: its name (`message` when the stream gave none) and its data."""

    name: str
    data: str


class EventStream:
    """Takes bytes in any portions and gives the events that are complete.

    Args:
        most: bytes of one event, its field names included.

    Attributes:
        overflown: an event was too long.
        last_id: of the last event that had one, for `Last-Event-ID`; empty: none.
        retry_ms: how long the server would have a client wait before it comes again; None: it does not say.
    """

    def __init__(self, most: int = MAX_EVENT) -> None:
        self._most = most
        self.overflown = False
        self.last_id = ""
        self.retry_ms: int | None = None
        self._id = ""
        self._rest = bytearray()
        self._first = True
        self._after_cr = False
        self._name = ""
        self._data: list[bytes] = []
        self._held = 0

    def resumed(self) -> EventStream:
        """The stream that takes this one up where it broke off."""
        found = EventStream(self._most)
        found.last_id = found._id = self.last_id
        found.retry_ms = self.retry_ms
        return found

    def feed(self, untrusted_bytes: bytes) -> list[Event]:
        """The events that these bytes complete."""
        if self.overflown:
            return []
        if self._after_cr and untrusted_bytes:
            # CR and LF that arrive apart are one line end.
            untrusted_bytes = untrusted_bytes.removeprefix(b"\n")
            self._after_cr = False
        self._rest += untrusted_bytes
        if self._first:
            if len(self._rest) < len(_BOM) and _BOM.startswith(self._rest):
                return []
            self._first = False
            if self._rest.startswith(_BOM):
                del self._rest[: len(_BOM)]
        events: list[Event] = []
        # What was held is looked through again only when a line ends: a long line in small pieces stays cheap.
        if b"\n" in untrusted_bytes or b"\r" in untrusted_bytes:
            self._after_cr = self._rest.endswith(b"\r")
            lines = self._rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            self._rest = lines.pop()
            for line in lines:
                if (event := self._line(bytes(line))) is not None:
                    events.append(event)
                if self._held > self._most:
                    break
        if self._held + len(self._rest) > self._most:
            self.overflown, self._rest, self._data = True, bytearray(), []
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        self._held += len(line)
        if self._held > self._most:
            return None
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Event | None:
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        self._held = 0
        self.last_id = self._id
        if not data:
            return None
        return Event(name, b"\n".join(data).decode("utf-8", "replace"))
