"""Live findings: every event of a run, in the order in which it happened, before the rules of the packs.

Rules are sorted by event type; by what a field must be, begin or end with, most are ruled out without being asked;
those left are asked together first, and one by one only when some holds. It refuses nothing an event can hold: a value
of another kind is as good as none.

    detector = Detector([parse_sigma(text, "curl.yml")])
    detector.observe(event)          # [Finding(…), …]
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from capsule.rules.detection.cel import Plan, conditions
from capsule.rules.detection.correlation import Window
from capsule.rules.detection.finding import Finding
from capsule.rules.detection.model import Detection, SigmaFile, joined
from capsule.rules.index import Index, bits

TOGETHER: Final = 24


class Detector:
    """The rules of some packs, compiled, and what their correlations have seen."""

    def __init__(self, packs: Iterable[SigmaFile]) -> None:
        rules = joined(packs)
        types = {kind for one in rules.detections for kind in one.branches}
        self._groups = {
            kind: _Group(kind, [one for one in rules.detections if kind in one.branches]) for kind in types
        }
        self._correlations = rules.correlations
        self._size = len(rules.detections) + len(rules.correlations)
        self.forget()

    def __len__(self) -> int:
        return self._size

    def forget(self) -> None:
        """Begins anew: as one that was just made, without compiling again."""
        self._windows = [Window(one) for one in self._correlations]
        self._feeding: dict[str, list[Window]] = {}
        for window in self._windows:
            for detection in dict.fromkeys(window.rule.detections):
                self._feeding.setdefault(detection, []).append(window)
        for group in self._groups.values():
            group.failed = 0
        self._last_us = 0

    @property
    def failed(self) -> int:
        """How many conditions could not be evaluated; they count as not holding."""
        return sum(group.failed for group in self._groups.values())

    @property
    def forgotten(self) -> int:
        """How many groups of events correlations dropped for want of room."""
        return sum(window.forgotten for window in self._windows)

    @property
    def types(self) -> frozenset[str]:
        """The event types that some rule is about."""
        return frozenset(self._groups)

    def observe(self, event: Mapping[str, Any]) -> list[Finding]:
        """What the event, with those before it, means.

        Args:
            event: as events.md has it; without a time it happens with the one before.

        Raises:
            ValueError: the event has no type.
        """
        try:
            kind = event["event"]["type"]
        except (KeyError, TypeError):
            raise ValueError("an event without event.type") from None
        group = self._groups.get(kind)
        if group is None:
            return []
        held = group.holding(event)
        if not held:
            return []
        found: list[Finding] = []
        self._last_us = at_us = time_us(event["event"].get("time")) or self._last_us
        for detection in held:
            if detection.alone:
                found.append(Finding(detection.about, (str(event["event"].get("id", "")),)))
            for window in self._feeding.get(detection.about.id, ()):
                finding = window.observe(detection.about.id, event, at_us)
                if finding is not None:
                    found.append(finding)
        return found


def time_us(text: object) -> int | None:
    """Microseconds since 1970 of an RFC 3339 time; None when it is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(microseconds=1)


class _Group:
    """The detections of one event type."""

    def __init__(self, kind: str, detections: Sequence[Detection]) -> None:
        self.detections = detections
        self.failed = 0
        predicates = [one.branches[kind] for one in detections]
        self._plan = Plan(predicates)
        sources = [self._plan.source(predicate) for predicate in predicates]
        self._index = Index([self._plan.comparisons(predicate) for predicate in predicates])
        environment = conditions()
        self._activation = environment.Activation
        self._programs = [environment.compile(source) for source in sources]
        loose = [number for number in range(len(sources)) if not self._index.tested >> number & 1]
        self._together: list[tuple[int, Any]] = []
        for start in range(0, len(loose), TOGETHER):
            chunk = loose[start : start + TOGETHER]
            if len(chunk) > 2:
                either = environment.compile(" || ".join(sources[number] for number in chunk))
                self._together.append((sum(1 << number for number in chunk), either))

    def holding(self, event: Mapping[str, Any]) -> list[Detection]:
        """The detections that the event alone is enough for."""
        shown = self._plan.shown(event)
        mask = self._index.candidates(shown)
        if not mask:
            return []
        try:
            activation = self._activation(shown)
        except (RuntimeError, ValueError, TypeError, OverflowError):
            self.failed += 1
            return []
        for together, program in self._together:
            if mask & together and self._ask(program, activation) is False:
                mask &= ~together
        found = []
        for number in bits(mask):
            answer = self._ask(self._programs[number], activation)
            if answer is True:
                found.append(self.detections[number])
            elif answer is None:
                self.failed += 1
        return found

    def _ask(self, program: Any, activation: Any) -> bool | None:
        try:
            value = program.eval(activation).value()
        except (RuntimeError, ValueError, TypeError, OverflowError):
            return None
        return value if isinstance(value, bool) else None
