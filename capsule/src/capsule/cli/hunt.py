"""`capsule hunt`: detection rules over past sessions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from capsule.cli import terminal
from capsule.cli.sessions.source import SessionName, find, log_option, opened, since
from capsule.cli.sessions.table import painter, table, width
from capsule.errors import UsageError
from capsule.rules.rule import LEVELS
from capsule.sessions.hunt import Hit, hunt
from capsule.sessions.query import ids
from capsule.sessions.subject import subject_of

_COLOURS = {"critical": "red", "high": "red", "medium": "yellow"}


@click.command("hunt", epilog="Example: capsule hunt agents --since 7d")
@click.argument("rules", nargs=-1, required=True, metavar="FILE_OR_DIRECTORY_OR_PACK...")
@log_option
@click.option(
    "--since", "since_", metavar="WHEN", help="Events since then: 90s, 2h, 7d, or a date or time in UTC."
)
@click.option("--session", metavar="SESSION", type=SessionName(), help="Only in this session.")
@click.option("--level", type=click.Choice(list(LEVELS)), help="Only rules of this level or above.")
@click.option(
    "--hits",
    type=click.IntRange(0, 100_000),
    default=3,
    show_default=True,
    help="Shown of each rule, the newest.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 86_400),
    default=600.0,
    show_default=True,
    help="How long it may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(
    *,
    rules: tuple[str, ...],
    logs: tuple[Path, ...],
    since_: str | None,
    session: str | None,
    level: str | None,
    hits: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Look through past sessions for what Sigma rules describe, correlations included.

    FILE_OR_DIRECTORY_OR_PACK: Sigma files, directories of them, packs that come with capsule (agents), or a policy
    with `detect`. What is found says which rule, in which session, and the entry on the log.
    """
    # Compiling rules is dear: not before somebody hunts.
    from capsule.cli.rules.sources import load
    from capsule.rules.detection.sql import FUNCTIONS

    begin = since(since_)
    detections = load(rules).detections
    if not detections.detections:
        raise UsageError(
            "there are no detection rules in that", next_step="name Sigma files, or the pack agents"
        )
    found: dict[str, list[Hit]] = {}
    counts: dict[str, int] = {}
    sessions: dict[str, set[str | None]] = {}
    until = time.monotonic() + seconds
    with opened(logs) as reader:
        reader.add(FUNCTIONS)
        run = None
        if session is not None:
            row = find(reader, session, logs)
            run = (str(row["run"]), *ids(row))

        def ask(sql: str, values: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
            return reader.each(sql, values, until=until)

        for hit in hunt(ask, detections, begin=begin, run=run):
            if level is not None and LEVELS.index(hit.rule.level) < LEVELS.index(level):
                continue
            name = hit.rule.id
            counts[name] = counts.get(name, 0) + 1
            sessions.setdefault(name, set()).add(hit.run)
            kept = found.setdefault(name, [])
            kept.append(hit)
            if len(kept) > max(hits, 1):
                del kept[0]
    order = sorted(found, key=lambda name: (-LEVELS.index(found[name][0].rule.level), -counts[name], name))
    if as_json:
        terminal.say_json(
            {
                "rules": len(detections.detections) + len(detections.correlations),
                "found": [_record(found[name], counts[name], len(sessions[name]), hits) for name in order],
            }
        )
        return
    _say([(found[name], counts[name], len(sessions[name])) for name in order], hits)
    if not order:
        terminal.say(f"nothing: {len(detections.detections)} rules hold for no recorded event")


def _record(found: list[Hit], count: int, sessions: int, hits: int) -> dict[str, Any]:
    rule = found[0].rule
    return {
        "rule": {"id": rule.id, "title": rule.title, "level": rule.level, "file": rule.file, "line": rule.line},
        "count": count,
        "sessions": sessions,
        "hits": [
            {
                "run": hit.run, "seq": hit.seq, "time": hit.time, "what": subject_of(hit.event), "count": hit.count,
                "events": list(hit.events),
            }
            for hit in found[-hits:] if hits
        ],
    }  # fmt: skip


def _say(found: list[tuple[list[Hit], int, int]], hits: int) -> None:
    paint = painter()
    for kept, count, sessions in found:
        rule = kept[0].rule
        level = paint(_COLOURS.get(rule.level, "dim"), rule.level)
        times = "1 time" if count == 1 else f"{count} times"
        where = "1 session" if sessions == 1 else f"{sessions} sessions"
        title = terminal.plain(" ".join(rule.title.split()))
        terminal.say_painted([f"{level}  {paint('bold', title)}  {times} in {where}"])
        rows = [
            ("", hit.time[:19].replace("T", " "), hit.run or "-", hit.seq, subject_of(hit.event))
            for hit in kept[-hits:]
        ]
        if hits:
            # The heads would be the same for each rule.
            lines = list(table(("", "", "", "", ""), rows, width=width(), gives=4, right=(3,)))
            terminal.say_painted(lines[1:])
