"""A present policy beside what was observed: what it would refuse, what it grants for nothing. Pure.

unused_grants(observation, grants)      # entries of the policy that nothing used
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from capsule.profile.observation import FileUse, Observation

Want = Literal["read", "write", "execute"]
Decide = Callable[[Want, str], bool]


@dataclass(frozen=True, slots=True)
class Grant:
    """An entry of the present policy: ``want`` is read, write or execute; ``path`` absolute; where it was written."""

    want: Want
    path: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A use that the present policy refuses."""

    want: Want
    path: str
    count: int


def unused_grants(seen: Observation, grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """The grants beneath which nothing of their kind was used."""
    return tuple(grant for grant in grants if not any(_used(use, grant) for use in seen.files))


def _used(use: FileUse, grant: Grant) -> bool:
    if use.path != grant.path and not use.path.startswith(grant.path.rstrip("/") + "/"):
        return False
    if grant.want == "write":
        return use.written > 0
    if grant.want == "execute":
        return use.execute > 0
    return use.read + use.list + use.execute > 0


def missing_grants(seen: Observation, allowed: Decide) -> tuple[Missing, ...]:
    """The uses that ``allowed(want, path)`` refuses, most frequent first."""
    found = []
    for use in seen.files:
        wants: tuple[tuple[Want, int], ...] = (
            ("read", use.read + use.list),
            ("write", use.written),
            ("execute", use.execute),
        )
        found += [
            Missing(want, use.path, count) for want, count in wants if count and not allowed(want, use.path)
        ]
    return tuple(sorted(found, key=lambda missing: (-missing.count, missing.path, missing.want)))


def prune_lines(text: str, lines: Iterable[int]) -> str:
    """``text`` without the given 1-based lines, each of which must be a whole list item on a line of its own.

    A list that loses its last item stays, as an empty one.

    Raises:
        ValueError: for a line that is not ``- item``: removing it would change more than that entry.
    """
    rows = text.splitlines(keepends=True)
    gone = set(lines)
    for number in gone:
        if not 1 <= number <= len(rows) or not rows[number - 1].lstrip().startswith("- "):
            raise ValueError(f"line {number} is not a list item of its own")
    kept = []
    for number, row in enumerate(rows, 1):
        if number in gone:
            continue
        key = _KEY.fullmatch(row)
        if key and number + 1 in gone and not _has_items(rows, number, gone, len(key[1])):
            kept.append(f"{key[1]}{key[2]}: []{key[3]}")
        else:
            kept.append(row)
    return "".join(kept)


_KEY = re.compile(r"( *)([a-z_]+):(\s*(?:#.*)?\n?)")


def _has_items(rows: list[str], key: int, gone: set[int], indent: int) -> bool:
    """Whether a list item is left below line ``key``, before anything that ends the list."""
    for number, row in enumerate(rows[key:], key + 1):
        bare = row.strip()
        if number in gone or not bare or bare.startswith("#"):
            continue
        return bare.startswith("- ") and len(row) - len(row.lstrip()) >= indent
    return False
