"""Several events that mean something together: counted, or seen near each other, in a window of time.

The same code runs as events come and over the hits of a query in their order. What is kept is bounded: at most 1024
groups a rule (the one not seen longest goes first, and is counted as forgotten) and, in a group, no more than the rule
counts to. Events of different runs are never taken together. It refuses nothing.

    window = Window(correlation)
    window.observe(detection_id, event, at_us)      # a Finding, or None
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from capsule.rules.detection.cel import taker
from capsule.rules.detection.finding import Finding
from capsule.rules.detection.model import Correlation

MAX_GROUPS = 1024
MAX_EVENTS = 32
Take = Callable[[Mapping[str, Any]], Any]


class Window:
    """The state of one correlation.

    Attributes:
        forgotten: how many groups were dropped while they may still have counted.
    """

    def __init__(self, rule: Correlation) -> None:
        self.rule = rule
        self.forgotten = 0
        self._groups: OrderedDict[tuple[str, ...], _Group] = OrderedDict()
        self._group: dict[tuple[str, str], tuple[Take, ...]] = {
            (detection, kind): tuple(taker(field) for field in fields)
            for detection, kinds in rule.group.items()
            for kind, fields in kinds.items()
        }
        self._counted: dict[tuple[str, str], Take] = {
            (detection, kind): taker(field)
            for detection, kinds in rule.counted.items()
            for kind, field in kinds.items()
        }

    def observe(self, detection: str, event: Mapping[str, Any], at_us: int) -> Finding | None:
        """One event that a detection of the rule holds for.

        Args:
            detection: its id.
            event: as events.md has it.
            at_us: when it happened, in microseconds of any clock that all events share.
        """
        kind = event["event"]["type"]
        takers = self._group.get((detection, kind))
        if takers is None:
            return None
        key = (str(event.get("run", "")), *(_shown(take(event)) for take in takers))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
            if len(self._groups) > MAX_GROUPS:
                _, dropped = self._groups.popitem(last=False)
                self.forgotten += dropped.last_us >= at_us - self.rule.window_us
        self._groups.move_to_end(key)
        take = self._counted.get((detection, kind))
        value = _shown(take(event)) if take is not None else ""
        if take is not None and not value:
            return None
        done = group.add(self.rule, detection, value, str(event["event"].get("id", "")), at_us)
        if done is None:
            return None
        del self._groups[key]
        events, count = done
        return Finding(self.rule.about, events[-MAX_EVENTS:], count, key[1:])


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return "\0".join(map(str, value)) if isinstance(value, list) else str(value)


class _Group:
    """What was seen of one group.

    `seen`: (when, which detection or value, event), in order of arrival. For ordered rules, `chains`: for each place,
    when the chain that reached it began, and its events.
    """

    __slots__ = ("chains", "last_us", "seen")

    def __init__(self) -> None:
        self.seen: list[tuple[int, str, str]] = []
        self.chains: dict[int, tuple[int, tuple[str, ...]]] = {}
        self.last_us = 0

    def add(
        self, rule: Correlation, detection: str, value: str, event: str, at_us: int
    ) -> tuple[tuple[str, ...], int] | None:
        """The events and how many, when the rule is met now."""
        self.last_us = max(self.last_us, at_us)
        if rule.kind == "temporal_ordered":
            return self._follow(rule, rule.detections.index(detection), event, at_us)
        oldest = self.last_us - rule.window_us
        mark = {"event_count": "", "value_count": value, "temporal": detection}[rule.kind]
        # Of one value, or one detection, the newest is enough.
        self.seen = [row for row in self.seen if row[0] >= oldest and (not mark or row[1] != mark)]
        self.seen.append((at_us, mark, event))
        met = len(self.seen) >= rule.at_least
        return (tuple(name for _, _, name in self.seen), len(self.seen)) if met else None

    def _follow(
        self, rule: Correlation, place: int, event: str, at_us: int
    ) -> tuple[tuple[str, ...], int] | None:
        """Lengthen the chain that reached the place before; of several, the one that began last is kept."""
        before: tuple[int, tuple[str, ...]] | None = (at_us, ()) if place == 0 else self.chains.get(place - 1)
        if before is None or not self.last_us - rule.window_us <= before[0] <= at_us:
            return None
        chain = (before[0], (*before[1], event))
        if place == len(rule.detections) - 1:
            return chain[1], len(chain[1])
        self.chains[place] = chain
        return None
