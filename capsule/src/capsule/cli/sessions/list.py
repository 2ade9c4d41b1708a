"""`capsule sessions list`: the newest sessions on one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capsule.cli import terminal
from capsule.cli.sessions.source import log_option, opened, since
from capsule.cli.sessions.story import command_line, ending, moment, public, took
from capsule.cli.sessions.table import painter, table, width
from capsule.sessions.query import Reader
from capsule.sessions.schema import RUNS, SEQ_BITS


@click.command("list", epilog="Example: capsule sessions list --since 2h --denied")
@log_option
@click.option(
    "--since", "since_", metavar="WHEN", help="Begun since then: 90s, 2h, 7d, or a date or time in UTC."
)
@click.option("--denied", is_flag=True, help="Only sessions in which something was refused.")
@click.option("--failed", is_flag=True, help="Only sessions that did not end with 0.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(
    *, logs: tuple[Path, ...], since_: str | None, denied: bool, failed: bool, limit: int, as_json: bool
) -> None:
    """List sessions, newest first: when, how long, how they ended, what was refused, the command."""
    begin = since(since_)
    with opened(logs) as reader:
        sessions, total = _sessions(reader, begin, limit, denied=denied, failed=failed)
    if as_json:
        terminal.say_json({"sessions": [public(run) for run in sessions], "total": total})
        return
    if not sessions:
        terminal.say("no sessions; `capsule run -- CMD` makes one, `--log FILE` takes another log in")
        return
    length = _length([str(run["run"]) for run in sessions])
    rows = [
        (run["run"][:length], moment(run["started"]), took(run), ending(run), run["refused"] or None, command_line(run))
        for run in sessions
    ]  # fmt: skip
    heads = ("SESSION", "STARTED (UTC)", "TOOK", "END", "DENIED", "COMMAND")
    terminal.say_painted(table(heads, rows, width=width(), gives=5, right=(2, 4), paint=painter()))
    if total > len(sessions):
        terminal.say(f"{total - len(sessions)} more; --limit {total} shows all")


def _sessions(
    reader: Reader, begin: str, limit: int, *, denied: bool, failed: bool
) -> tuple[list[dict[str, Any]], int]:
    begin_id = f"((runs.log << {SEQ_BITS}) | runs.first)"
    between = f"id BETWEEN {begin_id} AND ((runs.log << {SEQ_BITS}) | runs.last) AND {{}}.run = runs.run"
    refused = (
        f"(SELECT coalesce(sum(count), 0) FROM denials WHERE {between.format('denials')} AND probe IS NOT 1)"
        f" + (SELECT count(*) FROM decisions WHERE {between.format('decisions')} AND action = 'block')"
    )
    conditions = ["started >= ?"]
    if denied:
        conditions.append(f"{refused} > 0")
    if failed:
        conditions.append("(code IS NULL OR code <> 0)")
    columns = ", ".join(f"runs.{name}" for name in RUNS.names)
    source = f"FROM runs JOIN logs ON logs.number = runs.log WHERE {' AND '.join(conditions)}"
    rows = reader.all(
        f"SELECT {columns}, logs.path, logs.state, {refused} {source} ORDER BY started DESC, runs.first DESC LIMIT ?",
        (begin, limit),
    )
    (total,) = reader.all(f"SELECT count(*) {source}", (begin,))[0]
    found = [dict(zip((*RUNS.names, "path", "state", "refused"), row, strict=True)) for row in rows]
    return [{**run, "cut_off": (run["log"], run["run"]) in reader.cut_off} for run in found], total


def _length(names: list[str]) -> int:
    """How much of the names it takes to tell them apart."""
    for length in range(10, max(map(len, names))):
        if len({name[:length] for name in names}) == len(names):
            return length
    return max(map(len, names))
