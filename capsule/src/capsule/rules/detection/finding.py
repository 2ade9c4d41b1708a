"""What a detection found: the rule, and the events that led to it.

It refuses nothing. `record` is the entry `egress.finding` of the log, without what every entry has.

    finding.record()     # {'rule': {'id': …, 'title': …, 'level': 'high', …}, 'events': ['e7', 'e9']}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from capsule.rules.detection.model import About


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that fired.

    Attributes:
        events: ids of the events that led to it, the last one last; at most 32.
        count: how many events or different values, for a correlation.
        group: the values the events have in common, for a correlation.
    """

    rule: About
    events: tuple[str, ...]
    count: int = 1
    group: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As the log has it; absent fields are absent."""
        rule: dict[str, Any] = {"id": self.rule.id, "title": self.rule.title, "level": self.rule.level}
        rule |= {"file": self.rule.file, "line": self.rule.line}
        if self.rule.tags:
            rule["tags"] = list(self.rule.tags)
        found: dict[str, Any] = {"rule": rule, "events": list(self.events)}
        if self.count > 1:
            found["count"] = self.count
        if any(self.group):
            found["group"] = list(self.group)
        return found
