"""`capsule sessions query`: SQL over the session database, which it can only read."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from capsule.cli import terminal
from capsule.cli.sessions.source import log_option, opened
from capsule.cli.sessions.table import painter, table, width
from capsule.sessions.query import Answer

F = TypeVar("F", bound=Callable[..., Any])
UNCUT = 1 << 20
"""Cells of a line where nobody looks at it: whatever reads it wants the values whole."""


_OPTIONS = (
    click.option(
        "--limit", type=click.IntRange(1, 10_000_000), default=200, show_default=True, help="Rows at most."
    ),
    click.option(
        "--seconds",
        type=click.FloatRange(0.01, 3600),
        default=10.0,
        show_default=True,
        help="How long it may take.",
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="One JSON object: columns, rows, and whether there were more."
    ),
)


def answer_options(function: F) -> F:
    """The options of a verb that answers SQL: `limit`, `seconds`, `as_json`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command(
    "query",
    epilog="Example: capsule sessions query 'SELECT host, count(*) FROM http GROUP BY host ORDER BY 2 DESC'",
)
@click.argument("sql")
@log_option
@answer_options
def command(*, sql: str, logs: tuple[Path, ...], limit: int, seconds: float, as_json: bool) -> None:
    """Answer one SELECT over the tables of docs/formats/sessions.md.

    Besides SQLite's functions there are `text REGEXP expression` and `cidr(address, network)`. It only reads.
    On a terminal the table fits its width; elsewhere nothing is cut.
    """
    with opened(logs) as reader:
        answer = reader.ask(sql, limit=limit, seconds=seconds)
    say_answer(answer, limit=limit, as_json=as_json)


def say_answer(answer: Answer, *, limit: int, as_json: bool) -> None:
    """Rows as a table, and how to see those that were left out; or all of it as one JSON object."""
    rows = [[_shown(value) for value in row] for row in answer.rows]
    if as_json:
        terminal.say_json({"columns": list(answer.columns), "rows": rows, "more": answer.more})
        return
    right = [
        at
        for at in range(len(answer.columns))
        if rows and all(isinstance(row[at], int | float) for row in rows)
    ]
    widest = max(
        range(len(answer.columns)), key=lambda at: max([len(str(row[at])) for row in rows] or [0]), default=0
    )
    heads = [name.upper() if name.islower() else name for name in answer.columns]
    terminal.say_painted(
        table(
            heads,
            rows,
            width=width() if sys.stdout.isatty() else UNCUT,
            gives=widest,
            right=right,
            paint=painter(),
        )
    )
    if answer.more:
        terminal.complain([f"there are more rows; --limit {limit * 10} shows more of them"])


def _shown(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
