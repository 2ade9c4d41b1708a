"""Looking through past sessions for what detection rules describe: one SELECT a rule, correlations over their hits.

The windows of correlations are those that run live: fed with the hits of all their rules, in order of time. It refuses
nothing a rule can say; values of rules are parameters of the statements. Pure but for the rows, which the caller asks
for through a port.

    for hit in hunt(rows, detections, begin="2026-11-25"): hit.rule.title, hit.run, hit.seq
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capsule.rules.detection.correlation import Window
from capsule.rules.detection.detector import time_us
from capsule.rules.detection.model import About, Detection, SigmaFile
from capsule.rules.detection.sql import select

Row = tuple[Any, ...]
Ask = Callable[[str, Sequence[Any]], Iterable[Row]]
"""A SELECT and its parameters → rows `(id, run, seq, time, type, event)`."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One event that a rule holds for, or the last one of several.

    Attributes:
        rule: which one.
        run: the session.
        seq: the event's place on its log.
        time: when.
        event: the event.
        events: for a correlation, the events that led to it.
        count: how many events, or different values.
    """

    rule: About
    run: str | None
    seq: int
    time: str
    event: Mapping[str, Any]
    events: tuple[str, ...] = ()
    count: int = 1


def hunt(
    ask: Ask, rules: SigmaFile, *, begin: str = "", run: tuple[str, int, int] | None = None
) -> Iterator[Hit]:
    """Every hit: rule by rule, then the correlations.

    Args:
        ask: asks the database.
        rules: detections and correlations.
        begin: only events from this time on (a beginning of RFC 3339 will do).
        run: only this session: its name, and the first and last id of its events.
    """
    for detection in rules.detections:
        if detection.alone:
            for seen in _rows(ask, detection, begin, run):
                yield Hit(detection.about, *seen)
    for correlation in rules.correlations:
        window = Window(correlation)
        parts = [each for each in rules.detections if each.about.id in correlation.detections]
        streams = [_stream(place, detection, ask, begin, run) for place, detection in enumerate(parts)]
        for time, seq, _, name, (name_of_run, event) in heapq.merge(*streams, key=lambda item: item[:3]):
            found = window.observe(name, {**event, "run": name_of_run or ""}, time_us(time) or 0)
            if found is not None:
                yield Hit(correlation.about, name_of_run, seq, time, event, found.events, found.count)


def _stream(
    place: int, detection: Detection, ask: Ask, begin: str, run: tuple[str, int, int] | None
) -> Iterator[tuple[str, int, int, str, tuple[str | None, dict[str, Any]]]]:
    """The hits of one rule, beginning with what they are put in order by."""
    for name, seq, time, event in _rows(ask, detection, begin, run):
        yield time, seq, place, detection.about.id, (name, event)


def _rows(
    ask: Ask, detection: Detection, begin: str, run: tuple[str, int, int] | None
) -> Iterator[tuple[str | None, int, str, dict[str, Any]]]:
    if not detection.branches:
        return  # it asks about what events never have
    query = select(detection)
    values: list[Any] = list(query.parameters)
    limits = []
    if begin:
        values.append(begin)
        limits.append(f"time >= ?{len(values)}")
    if run is not None:
        values += run
        at = len(values)
        limits.append(f"run = ?{at - 2} AND id BETWEEN ?{at - 1} AND ?{at}")
    sql = query.sql
    if limits:
        before, after = sql.split(" WHERE ", 1)
        found, order = after.rsplit(" ORDER BY ", 1)
        sql = f"{before} WHERE {' AND '.join(limits)} AND ({found}) ORDER BY {order}"
    for _, name, seq, time, kind, text in ask(sql, values):
        event = json.loads(text)
        head = event.get("event")
        head = head if isinstance(head, dict) else {}
        # What of a run has no id of its own: its place on the log names it.
        event["event"] = {"id": f"{name or '-'}/{seq}", **head, "type": kind, "time": time}
        yield name, seq, time, event
