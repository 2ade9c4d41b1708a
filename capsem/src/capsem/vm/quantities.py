"""Sizes and names as people write them.

Refuses: what is not exactly of the form, sizes out of reason, names that could be paths or options.

    mebibytes("2G")               # 2048
    machine_name("build-1")       # 'build-1'
"""

from __future__ import annotations

import re

from capsem.errors import UsageError

_SIZE = re.compile(r"([1-9][0-9]{0,6})([MG]?)")
_LIKE_AN_ID = re.compile(r"m-[0-9a-f]{1,8}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}(?<!-)")


def mebibytes(text: str, *, what: str, least: int, most: int) -> int:
    """A size in MiB: a number, with `M` (the default) or `G` behind it.

    Args:
        text: as a person wrote it.
        what: the option, for the error.
        least: the smallest that makes sense, in MiB.
        most: the largest, in MiB.

    Raises:
        UsageError: it is not of that form, or out of range.
    """
    found = _SIZE.fullmatch(text.strip().upper().removesuffix("IB").removesuffix("B"))
    if found is None:
        raise UsageError(
            f"{what}: {text!r} is no size", next_step="write a number of MiB, or like 512M or 2G"
        )
    size = int(found[1]) * (1024 if found[2] == "G" else 1)
    if not least <= size <= most:
        raise UsageError(f"{what}: {size} MiB is out of range", next_step=f"from {least} to {most} MiB")
    return size


def machine_name(text: str) -> str:
    """A machine's name, which is also its host name: a letter, then letters, digits and hyphens, at most 63.

    Raises:
        UsageError: it is not of that form, or could be taken for a machine's id or the beginning of one.
    """
    if _LIKE_AN_ID.fullmatch(text) is not None:
        raise UsageError(
            f"{text!r} looks like the id of a machine",
            next_step="choose a name that is not m- and hexadecimal digits",
        )
    if _NAME.fullmatch(text) is None:
        raise UsageError(
            f"{text!r} is no name for a machine",
            next_step="use a letter, then small letters, digits and hyphens, at most 63",
        )
    return text
