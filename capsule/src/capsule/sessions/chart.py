"""Small charts of text: a line of activity over time, a bar, sizes and spans in few characters. Pure.

spark([0, 3, 9])           # ' ▃█'
amount(1536), span(61_000_000)      # '1.5 kB', '1m01s'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LEVELS = " ▁▂▃▄▅▆▇█"
ASCII_LEVELS = " .:-=+*%@"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def buckets(offsets: Iterable[int], end: int, count: int) -> list[int]:
    """How many of the offsets (µs) fall into each of `count` equal parts of 0…`end`."""
    found = [0] * count
    for offset in offsets:
        found[min(count - 1, max(0, offset) * count // (max(end, 0) + 1))] += 1
    return found


def spark(values: Sequence[int], *, ascii_only: bool = False) -> str:
    """One character a value; the largest is full, and anything above nothing is seen."""
    levels = ASCII_LEVELS if ascii_only else LEVELS
    top = max(values, default=0)
    if top <= 0:
        return levels[0] * len(values)
    return "".join(
        levels[-(-value * (len(levels) - 1) // top)] if value > 0 else levels[0] for value in values
    )


def bar(value: int, top: int, width: int, *, ascii_only: bool = False) -> str:
    """A horizontal bar of at most `width` characters."""
    if top <= 0 or value <= 0:
        return ""
    eighths = max(1, value * width * 8 // top)
    if ascii_only:
        return "#" * max(1, eighths // 8)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def amount(count: int) -> str:
    """Bytes, in powers of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def number(count: int) -> str:
    """A count, shortened above ten thousand."""
    size = float(count)
    if size < 10_000:
        return str(count)
    for unit in ("k", "M"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f}{unit}" if size < 100 else f"{size:.0f}{unit}"
    return f"{size / 1000:.1f}G"


def span(us: int) -> str:
    """A length of time given in µs."""
    if us < 1000:
        return f"{us} µs"
    if us < 1_000_000:
        return f"{us // 1000} ms"
    seconds = us / 1_000_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def dollars(micro: int) -> str:
    """Micro-dollars as dollars, with as many places as it takes to see something."""
    return (
        f"${micro / 1_000_000:.2f}"
        if micro >= 10_000 or micro == 0
        else f"${micro / 1_000_000:.6f}".rstrip("0")
    )
