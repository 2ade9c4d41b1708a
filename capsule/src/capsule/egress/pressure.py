"""Who has to wait: one slow reader must not make this process keep what a fast writer sends.

Looks, stream by stream, at what waits on the other side of it: in HTTP/2's buffers, in a queue for a free stream, in a
stream that a decision or a dial pauses, in a socket. HTTP/1 is held back by not reading, HTTP/2 by not acknowledging
(RFC 9113 §5.2), never by not reading: what frees it comes on the same socket. Refuses nothing.

    if pressure.stuck(end, stream_id):
        ...                              # owe the acknowledgement
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mitmproxy.connection import Connection

    from capsule.egress.interception import Driver, Wire

LIMIT = 1 << 20
"""Bytes that may wait for one stream."""
EVENTS = 8
"""Pieces (at most 256 KiB each) that may wait for a paused stream."""


class Pressure:
    """The ends of one driver and what waits between them.

    Attributes:
        ends: HTTP/1 and HTTP/2 ends by connection; they put themselves here.
        early: HTTP/1 ends whose buffer holds what was sent before its turn.
        streams: the exchanges by their number at the program's end.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.ends: dict[Connection, Any] = {}
        self.early: set[Connection] = set()
        self.streams: dict[int, Any] = {}

    def forget(self, connection: Connection) -> None:
        """Its socket is gone."""
        self.ends.pop(connection, None)
        self.early.discard(connection)

    def stuck(self, end: Any, stream_id: int | None) -> bool:
        """Whether what `end` receives for a stream of its waits somewhere already."""
        if stream_id is None:
            return False
        client = self._driver.context.client
        if end.conn is not client:
            theirs = end.their_stream_id.get(stream_id) if hasattr(end, "their_stream_id") else stream_id
            return self._waits(client, theirs)
        stream = self.streams.get(stream_id)
        if stream is None:
            return False
        if len(stream._paused_event_queue) > EVENTS:
            return True
        server = stream.context.server
        other = self.ends.get(server)
        if other is not None and hasattr(other, "our_stream_id"):
            queued = other.stream_queue.get(stream_id)
            if queued and len(queued) > EVENTS:
                return True
            return self._waits(server, other.our_stream_id.get(stream_id))
        return self._waits(server, stream_id)

    def _waits(self, connection: Connection, stream_id: int | None) -> bool:
        wire = self._driver.wire(connection)
        if wire is not None and wire.full:
            return True
        end = self.ends.get(connection)
        if end is None or stream_id is None or not hasattr(end, "h2_conn"):
            return False
        parts = end.h2_conn.stream_buffers.get(stream_id)
        return bool(parts) and sum(len(part.data) for part in parts) > LIMIT

    def balance(self, wires: list[Wire]) -> bool:
        """Holds back whoever sends too fast, lets go on whoever may; whether something is owed that can be settled."""
        settle = False
        for wire in wires:
            end = self.ends.get(wire.connection)
            if end is None:
                wire.hold(False)
            elif hasattr(end, "h2_conn"):
                wire.hold(wire.full)
                settle = settle or any(not self.stuck(end, stream_id) for stream_id in end.owed)
            else:
                wire.hold(wire.connection in self.early or self.stuck(end, end.stream_id))
        return settle
