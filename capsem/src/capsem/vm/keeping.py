"""What of CAPSEM_HOME goes and what stays, by the rules of the settings (docs/formats/settings.md). Pure.

Refuses to let anything go that something needs, that is in use, or that no rule speaks of: without a rule it stays.

    judged([Item(What.TEMPLATE, "3f…", 90_000_000, used=0.0)], settings, now=1e9)[0].goes       # True
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from capsem.vm.settings import Settings

_DAY = 86400.0


class What(enum.StrEnum):
    """What can go."""

    TEMPLATE = "template"
    IMAGE = "image"
    LOG = "log"
    UNFINISHED = "unfinished"


RULES = {What.TEMPLATE: "clean.templates", What.IMAGE: "clean.images", What.LOG: "clean.logs"}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is kept.

    Attributes:
        what: of which kind.
        name: a template's key, an image's digest, a machine's id, a path below CAPSEM_HOME.
        size: bytes that it takes on the disk.
        used: when it was used last, seconds since 1970.
        needed: why it has to stay, whatever the rules say; None: nothing needs it.
        useless: why it is of no use to anybody, whatever its age; None: it may be.
    """

    what: What
    name: str
    size: int
    used: float
    needed: str | None = None
    useless: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of it.

    Attributes:
        item: of what.
        goes: whether it goes.
        why: it goes, or stays.
        place: which file says so; None where no setting does.
    """

    item: Item
    goes: bool
    why: str
    place: str | None = None


def judged(items: Iterable[Item], settings: Settings, now: float) -> list[Judged]:
    """What becomes of each.

    Args:
        items: all that there is.
        settings: with the rules.
        now: seconds since 1970.
    """
    return [_judged(item, settings, now) for item in items]


def _judged(item: Item, settings: Settings, now: float) -> Judged:
    if item.needed is not None:
        return Judged(item, goes=False, why=item.needed)
    if item.useless is not None:
        return Judged(item, goes=True, why=item.useless)
    rule = RULES.get(item.what)
    if rule is None:
        return Judged(item, goes=False, why="no rule speaks of it")
    place, days = settings.of(rule).place, settings.days(rule)
    if days is None:
        return Judged(item, goes=False, why=f"{rule} is none", place=place)
    age = (now - item.used) / _DAY
    told = f"not used for {max(0, int(age))} days, {rule} is {days}"
    return Judged(item, goes=age >= days, why=told, place=place)
