"""The whole list of attacks, in the order in which they are run, and how to choose among them.

chosen(["fs.*", "net.dns"])  # the cases of one family and one more
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from capsule.attack import (
    filesystem,
    integrity,
    kernel,
    names,
    network,
    outliving,
    persistence,
    process,
    programs,
    reaching,
    repositories,
    resources,
)
from capsule.attack.case import Case

CASES: tuple[Case, ...] = tuple(
    case
    for family in (
        filesystem,
        names,
        persistence,
        repositories,
        process,
        outliving,
        programs,
        kernel,
        network,
        reaching,
        resources,
        integrity,
    )
    for case in family.FAMILY.cases
)


class UnknownCaseError(ValueError):
    """A pattern of the caller's names no case; says the nearest."""


def chosen(patterns: Sequence[str], cases: Sequence[Case] = CASES) -> list[Case]:
    """The cases that any of the patterns names, in the corpus's order; all of them without a pattern.

    Args:
        patterns: Ids, families ("fs"), or shell patterns ("fs.read-*").
        cases: What to choose from.

    Raises:
        UnknownCaseError: when a pattern names none.
    """
    for pattern in patterns:
        if not any(_names(pattern, case) for case in cases):
            families = ", ".join(dict.fromkeys(case.family for case in cases))
            raise UnknownCaseError(f"no attack is called {pattern!r}; families are {families}")
    return [case for case in cases if not patterns or any(_names(pattern, case) for pattern in patterns)]


def _names(pattern: str, case: Case) -> bool:
    return pattern == case.family or fnmatch.fnmatchcase(case.id, pattern)
