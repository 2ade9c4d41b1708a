"""What is remembered of a question: the `dns` event, with what gives a tunnel away, and equal ones counted.

Pure; times are microseconds of the caller's clock. Refuses to remember more than `windows` different questions at once:
the oldest is then closed before its second is over.

    tally = Tally()
    for event in tally.add(describe(question, reply), now):    # the first of its kind at once …
        record(event)
    for event in tally.due(now):                               # … and how many more came within the second
        record(event)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from capsule.egress.dns import Answer, Question

WINDOW_US = 1_000_000
WINDOWS = 4096


def entropy(text: str) -> float:
    """Shannon's, in bits a character, rounded to a thousandth; 0 for no text."""
    if not text:
        return 0.0
    total = len(text)
    counts = Counter(text).values()
    return round(math.log2(total) - sum(n * math.log2(n) for n in counts) / total, 3)


def features(name: str) -> dict[str, Any]:
    """`labels`, `length` and `entropy` (of the longest label) of a name without its final dot."""
    labels = name.split(".") if name not in {"", "."} else []
    longest = max(labels, key=len, default="")
    return {"labels": len(labels), "length": len(name), "entropy": entropy(longest)}


def describe(question: Question, reply: Answer) -> dict[str, Any]:
    """The `dns` section of events.md."""
    fields: dict[str, Any] = {
        "name": question.name,
        "qtype": question.type_name,
        "transport": question.transport,
        "rcode": reply.rcode,
        **features(question.name),
    }
    if reply.address is not None:
        fields["answer"] = reply.address
    return fields


class Tally:
    """Equal events within a second become one event with `count`.

    Args:
        windows: how many different ones are followed at once.
    """

    def __init__(self, windows: int = WINDOWS) -> None:
        self._windows = windows
        self._open: dict[tuple[tuple[str, Any], ...], tuple[int, int, dict[str, Any]]] = {}

    def add(self, event: Mapping[str, Any], now_us: int, *, key: object = None) -> list[dict[str, Any]]:
        """One more event; what is to be recorded now, oldest first.

        Args:
            event: plain values only; two of the same items are equal.
            now_us: the caller's clock; never goes back.
            key: events of different keys (the program that asked) are never equal.
        """
        ready = self.due(now_us)
        identity = (("", key), *sorted(event.items()))
        found = self._open.get(identity)
        if found is not None:
            self._open[identity] = (found[0], found[1] + 1, found[2])
            return ready
        if len(self._open) >= self._windows:
            ready += self._close(next(iter(self._open)))
        self._open[identity] = (now_us, 0, dict(event))
        return [*ready, dict(event)]

    def due(self, now_us: int) -> list[dict[str, Any]]:
        """The counts of windows whose second is over."""
        ready: list[dict[str, Any]] = []
        while self._open:
            identity = next(iter(self._open))
            if now_us - self._open[identity][0] < WINDOW_US:
                break
            ready += self._close(identity)
        return ready

    def close(self) -> list[dict[str, Any]]:
        """Every count that is still open: the session ends."""
        return [event for identity in list(self._open) for event in self._close(identity)]

    def _close(self, identity: tuple[tuple[str, Any], ...]) -> list[dict[str, Any]]:
        _, more, event = self._open.pop(identity)
        return [{**event, "count": more}] if more else []
