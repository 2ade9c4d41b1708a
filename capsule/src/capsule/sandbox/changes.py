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
    """One difference.

    Attributes:
        risk: how much it gives away.
        what: in words.
        origin: the line in the new plan, or in the old one for what was removed.
        leads_out: whether bytes can leave by it, be it in the name of what is only read.
        shows: whether files can be read by it that could not before.
    """

    risk: Risk
    what: str
    origin: PlanOrigin | None = None
    leads_out: bool = False
    shows: bool = False
