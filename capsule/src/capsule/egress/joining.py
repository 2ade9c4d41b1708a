"""Data of HTTP/2 that came in several frames as one piece: each piece costs the layers the same work.

Pure but for h2's events. Joins neither data of two streams nor what something stands between; empty data stays by
itself, since it is counted as a flood may be of it (`flooding`).

    joined([DataReceived(1, b"a"), DataReceived(1, b"b"), StreamEnded(1)])      # DataReceived(1, b"ab"), StreamEnded(1)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

import h2.events


def joined(found: Iterable[h2.events.Event]) -> list[h2.events.Event]:
    """The same events, in order, with as few of data as can be."""
    events: list[h2.events.Event] = []
    for stream, run in itertools.groupby(found, _stream):
        if stream is None:
            events += run
            continue
        parts = [event for event in run if isinstance(event, h2.events.DataReceived)]
        length = sum(part.flow_controlled_length for part in parts)
        data = b"".join(part.data for part in parts)
        # Only the last can end the stream: nothing comes behind that.
        events.append(replace(parts[-1], data=data, flow_controlled_length=length))
    return events


def _stream(event: h2.events.Event) -> int | None:
    return event.stream_id if isinstance(event, h2.events.DataReceived) and event.data else None
