"""Detections and correlations as values: what Sigma says, in our event types and fields.

It refuses two rules of one id.

    joined([parse_sigma(text, "a.yml"), parse_sigma(other, "b.yml")]).detections
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from capsule.errors import Problem
from capsule.rules.detection import predicate as p
from capsule.rules.detection.logsource import View
from capsule.rules.rule import RuleError

CorrelationKind = Literal["event_count", "value_count", "temporal", "temporal_ordered"]
KINDS: Final = ("event_count", "value_count", "temporal", "temporal_ordered")
MAX_WINDOW_S: Final = 7 * 24 * 3600
MAX_COUNT: Final = 10_000


@dataclass(frozen=True, slots=True)
class About:
    """What a finding says about the rule behind it."""

    id: str
    title: str
    level: str
    tags: tuple[str, ...]
    file: str
    line: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class Detection:
    """One rule: for each event type what an event has to be.

    Attributes:
        views: how its log source sees each event type; correlations look fields up in them.
        unrecorded: fields it asks about that events never have; without them it may never fire (then no branches).
        alone: whether it makes findings of its own, or only feeds a correlation.
        name: how correlations may name it, beside its id.
    """

    about: About
    branches: Mapping[str, p.Predicate]
    views: Mapping[str, View]
    unrecorded: tuple[str, ...] = ()
    alone: bool = True
    name: str = ""


@dataclass(frozen=True, slots=True)
class Correlation:
    """Several detections, or one several times, within a window.

    Attributes:
        detections: ids of the rules it counts, in order.
        group: for each detection, the fields (ours) whose values must be the same.
        counted: for value_count, for each detection the field whose different values are counted.
        at_least: how many events or values it takes.
    """

    about: About
    kind: CorrelationKind
    detections: tuple[str, ...]
    window_us: int
    at_least: int
    group: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    counted: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SigmaFile:
    """What one file, or several, hold."""

    detections: tuple[Detection, ...]
    correlations: tuple[Correlation, ...] = ()


def joined(files: Iterable[SigmaFile]) -> SigmaFile:
    """Several files as one.

    Raises:
        RuleError: two rules have one id.
    """
    every = list(files)
    detections = tuple(one for file in every for one in file.detections)
    correlations = tuple(one for file in every for one in file.correlations)
    seen: dict[str, About] = {}
    for about in (*(one.about for one in detections), *(one.about for one in correlations)):
        other = seen.setdefault(about.id, about)
        if other is not about:
            raise refused(
                about.file, about.line, f"the id {about.id} is taken", f"{other.file}:{other.line} has it"
            )
    return SigmaFile(detections, correlations)


def refused(file: str, line: int, what: str, next_step: str) -> RuleError:
    """An error about the rule at a line."""
    return RuleError([Problem(file, line, 1, what, next_step=next_step)])
