"""What a session puts on its run's log: entries in order, no secret's value in them.

Refuses to let work go on that cannot be recorded: `room()` waits while the supervisor lags, and an entry that does not
fit a frame is shortened at its long texts, never dropped.

    recorder = Recorder(channel.send, wait=channel.room)
    recorder.write("egress.dns", {"dns": {...}, "decision": {...}})
"""

from __future__ import annotations

import json
import secrets as randomness
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from capsule.egress.frames import EGRESS_LIMIT, FrameError

_ROOM = EGRESS_LIMIT - 4096
_SECTIONS = {
    "egress.http": "http",
    "egress.dns": "dns",
    "egress.tcp": "tcp",
    "egress.model": "model",
    "egress.mcp": "mcp",
    "egress.websocket": "websocket",
}


def now() -> str:
    """This moment as entries have it: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Recorder:
    """The way from one session to its log.

    Attributes:
        mask: takes the values of secrets out of an entry's JSON.
        observers: see every entry as it was written.
    """

    def __init__(self, send: Callable[[object], None], *, wait: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._wait = wait
        self.mask: Callable[[bytes], bytes] | None = None
        self._prefix = randomness.token_hex(4)
        self._count = 0
        self.observers: list[Callable[[dict[str, Any]], None]] = []

    def next_id(self) -> str:
        """An id for an event of this session."""
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def write(self, kind: str, fields: dict[str, Any], *, event_id: str | None = None) -> str:
        """Appends one entry; returns its event's id."""
        identity = event_id or self.next_id()
        entry: dict[str, Any] = {"type": kind}
        section = _SECTIONS.get(kind)
        if section is not None and "event" not in fields:
            entry["event"] = {"id": identity, "type": section, "time": now()}
        entry.update(fields)
        if self.mask is not None:
            plain = msgspec.json.encode(entry)
            masked = self.mask(plain)
            if masked != plain:
                entry = msgspec.json.decode(masked)
        try:
            self._send({"type": "record", "entry": entry})
        except FrameError:
            entry = _fitting(entry)
            self._send({"type": "record", "entry": entry})
        for observer in self.observers:
            observer(entry)
        return identity

    async def room(self) -> None:
        """Waits until what was written is on its way."""
        await self._wait()


def _fitting(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with long texts cut and long lists ended, so that a frame holds it."""
    for text, items in ((4096, 128), (512, 48), (128, 12)):
        short: dict[str, Any] = _shortened(entry, text, items)
        if len(json.dumps(short)) < _ROOM:
            break
    return short


def _shortened(value: Any, text: int, items: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= text else value[:text] + f"… ({len(value)} characters)"
    if isinstance(value, dict):
        kept = list(value.items())[:items]
        return {_shortened(key, text, items): _shortened(item, text, items) for key, item in kept}
    if isinstance(value, list | tuple):
        return [_shortened(item, text, items) for item in list(value)[:items]]
    return value
