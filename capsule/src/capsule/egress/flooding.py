"""Frames of HTTP/2 that cost work and carry nothing, counted: one program must not keep this process from the others.

Pure but for h2's events. Pings, settings, priorities, empty data, windows opened by a few bytes, and above all streams
that are reset (RFC 9113 §10.5) count; they are forgotten again at a steady pace. Refuses nothing itself: who asks ends
the connection.

    flooding = Flooding()
    flooding.too_many(event, now)       # False, a few thousand times
"""

from __future__ import annotations

import h2.events

BURST = 2000.0
"""What may come at once."""
PACE = 400.0
"""What is forgotten in a second."""
RESET = 10
"""What a stream that is reset counts: a decision and an entry on the log were made for it."""
_SMALL = 1024
"""Bytes by which a window is worth opening."""


def weight(event: h2.events.Event) -> int:
    """What an event counts."""
    match event:
        case h2.events.DataReceived():
            return 0 if event.data or event.stream_ended is not None else 1
        case h2.events.WindowUpdated():
            return 1 if (event.delta or 0) < _SMALL else 0
        case h2.events.StreamReset():
            return RESET
        case (
            h2.events.PingReceived()
            | h2.events.RemoteSettingsChanged()
            | h2.events.SettingsAcknowledged()
            | h2.events.PriorityUpdated()
            | h2.events.UnknownFrameReceived()
        ):
            return 1
    return 0


class Flooding:
    """What one end of a connection has sent of these."""

    def __init__(self) -> None:
        self._level = 0.0
        self._last = 0.0

    def too_many(self, event: h2.events.Event, now: float) -> bool:
        """Whether there are more than one who means well sends; `now` in seconds."""
        counts = weight(event)
        if counts:
            self._level = max(0.0, self._level - (now - self._last) * PACE) + counts
            self._last = now
        return self._level > BURST
