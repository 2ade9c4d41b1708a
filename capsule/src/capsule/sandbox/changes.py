"""One difference between two plans, and how much it gives away. Values only; `diff` finds them, and refuses nothing.

Change(Risk.HIGH, "may write ~/x", origin).risk > Risk.NARROWER
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from capsule.sandbox.plan import PlanOrigin


class Risk(enum.IntEnum):
    """How much a change gives away; the higher the worse."""

    NARROWER = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `origin` is the line in the new plan, or in the old one for what was removed."""

    risk: Risk
    what: str
    origin: PlanOrigin | None = None
