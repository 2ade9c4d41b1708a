"""Tables that fit the terminal, and text that cannot drive it. One column gives way when the width is short.

for line in table(["RUN", "COMMAND"], rows, width=80, gives=1): say_painted([line])
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from capsule.cli import terminal

COLOURS = {
    "dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36",
}  # fmt: skip
Paint = Callable[[str, str], str]


def one_line(text: str) -> str:
    """The text on one line: everything that could drive the terminal is escaped, the end of a line too."""
    return terminal.plain(text)


def clip(text: str, width: int) -> str:
    """The text in at most `width` cells, with an ellipsis where something is missing."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…" if width > 0 else ""


def painter(*, never: bool = False) -> Paint:
    """Colours on a terminal; none elsewhere, and none with NO_COLOR."""
    if never or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return lambda _, text: text
    return lambda colour, text: f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if text else text


def plain_letters() -> bool:
    """Whether standard output can show nothing but ASCII."""
    return not (sys.stdout.encoding or "ascii").lower().replace("-", "").startswith("utf")


def width() -> int:
    """Columns of the terminal, 80 where there is none."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    width: int,
    gives: int,
    right: Sequence[int] = (),
    paint: Paint = lambda _, text: text,
) -> Iterator[str]:
    """The lines of a table.

    Args:
        heads: of the columns.
        rows: their values; None is shown as a dash.
        width: cells a line.
        gives: the column that is clipped first.
        right: columns of numbers.
        paint: for the heads.
    """
    cells = [["-" if value is None else one_line(str(value)) for value in row] for row in rows]
    widths = [max([cell_len(head), *(cell_len(row[at]) for row in cells)]) for at, head in enumerate(heads)]
    over = sum(widths) + 2 * (len(widths) - 1) - width
    others = sorted((at for at in range(len(widths)) if at != gives), key=lambda at: -widths[at])
    for at, least in ((gives, 12), *((at, 8) for at in others), (gives, 3), *((at, 3) for at in others)):
        cut = min(max(0, over), max(0, widths[at] - least))
        widths[at] -= cut
        over -= cut

    def line(values: Sequence[str]) -> str:
        parts = []
        for at, value in enumerate(values):
            shown = clip(value, widths[at])
            space = " " * (widths[at] - cell_len(shown))
            parts.append(space + shown if at in right else shown + space)
        return "  ".join(parts).rstrip()

    yield paint("dim", line(heads))
    for row in cells:
        yield line(row)
