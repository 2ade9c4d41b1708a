"""Sizes, durations, counts and money, parsed strictly: a unit is always written, fractions only of dollars.

parse_quantity("2GiB", "size")        # 2147483648 (bytes)
parse_quantity("10m", "duration")     # 600000 (milliseconds)
parse_quantity("none", "count")       # None: no limit
parse_quantity("5.00", "money")       # 5000000 (millionths of a dollar)
"""

from __future__ import annotations

import re

MAX_INTEGER = 2**53 - 1

_UNITS: dict[str, dict[str, int]] = {
    "size": {
        "B": 1,
        "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
        "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    },
    "duration": {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000},
    "count": {"": 1},
    "money": {"": 10**6},
}  # fmt: skip
EXPECTED = {
    "size": "a size such as 64KiB, 512MiB or 2GiB, or 'none'",
    "duration": "a duration such as 500ms, 60s, 10m or 2h, or 'none'",
    "count": "a whole number such as 256, or 'none'",
    "money": "dollars such as \"5.00\", in quotes and without a sign, or 'none'",
}


def parse_quantity(text: str, kind: str) -> int | None:
    """The number of bytes, milliseconds, things or millionths of a dollar; None for `none`.

    Raises:
        ValueError: when `text` is not exactly a whole number and a unit of this kind, or is zero or
        too large.
    """
    if text == "none":
        return None
    if kind == "money":
        return _micros(text)
    match = re.fullmatch(r"([1-9][0-9]{0,15})([A-Za-z]*)", text)
    if match is None or match.group(2) not in _UNITS[kind]:
        raise ValueError(text)
    value = int(match.group(1)) * _UNITS[kind][match.group(2)]
    if value > MAX_INTEGER:
        raise ValueError(text)
    return value


def _micros(text: str) -> int:
    match = re.fullmatch(r"(0|[1-9][0-9]{0,8})(?:\.([0-9]{1,6}))?", text)
    value = int(match.group(1)) * 10**6 + int((match.group(2) or "").ljust(6, "0")) if match else 0
    if value == 0:
        raise ValueError(text)
    return value


def nearest_quantity(text: str, kind: str) -> str | None:
    """What was probably meant: `2G` → `2GiB`, `30 min` → `30m`, `64kb` → `64KiB`."""
    if kind == "money":
        meant = text.strip("$ ").replace(",", ".")
        try:
            return None if meant == text else meant if _micros(meant) else None
        except ValueError:
            return None
    match = re.fullmatch(r"([1-9][0-9]{0,15})[ _]?([A-Za-z]*)", text)
    if match is None or kind == "count":
        return None
    unit = match.group(2).lower()
    if kind == "size":
        letter = unit[:1].upper()
        return match.group(1) + (f"{letter}iB" if letter in {"K", "M", "G", "T"} and letter else "B")
    for name, meant in (("ms", "ms"), ("mil", "ms"), ("s", "s"), ("m", "m"), ("h", "h")):
        if unit.startswith(name):
            return match.group(1) + meant
    return match.group(1) + "s"


def shown_quantity(value: int | None, kind: str) -> str:
    """The shortest exact spelling that `parse_quantity` reads back."""
    if value is None:
        return "none"
    if kind == "money":
        whole, part = divmod(value, 10**6)
        return f"{whole}.{f'{part:06}'[:2]}{f'{part:06}'[2:].rstrip('0')}"
    units = sorted(_UNITS[kind].items(), key=lambda unit: -unit[1])
    preferred = [unit for unit in units if "i" in unit[0] or unit[1] == 1] if kind == "size" else units
    # Every kind has a unit of one, so there is always an exact one.
    name, factor = next(unit for unit in preferred if value % unit[1] == 0)
    return f"{value // factor}{name}"
