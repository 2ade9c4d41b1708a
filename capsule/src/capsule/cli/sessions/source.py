"""Where the verbs over sessions get them: the logs taken in, the database opened, a session found by its name.

Refuses a name that stands for several sessions. Whoever finds another capsule writing reads what is there.

    with opened(logs) as reader:
        run = find(reader, "r-898a")
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from capsule.audit.store import LogError
from capsule.cli import terminal
from capsule.errors import CapsuleError, UsageError
from capsule.sessions.database import BusyError, DamagedError, Writer, directory
from capsule.sessions.holding import held
from capsule.sessions.ingest import known, size_of, take_in
from capsule.sessions.query import Place, Reader
from capsule.sessions.schema import RUNS

DEFAULT = Path("capsule.log")
_LONG = 32 << 20
_DURATION = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Run = dict[str, Any]


class SessionName(click.ParamType[str]):
    """A session's name, or the beginning of one; completion offers those that are indexed."""

    name = "session"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Sessions that begin like this, newest first, with their commands."""
        with contextlib.suppress(CapsuleError, OSError), Reader.open(directory()) as reader:
            rows = reader.all(
                "SELECT run, command FROM runs WHERE substr(run, 1, ?) = ? ORDER BY started DESC LIMIT 50",
                (len(incomplete), incomplete),
            )
            return [
                CompletionItem(str(run), help=terminal.plain(str(command or ""))[:60])
                for run, command in rows
            ]
        return []


def log_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--log`, as every verb over sessions has it."""
    return click.option(
        "--log",
        "logs",
        multiple=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="A log to take in, besides those already known; ./capsule.log by default.",
    )(function)


@contextlib.contextmanager
def opened(logs: Iterable[Path]) -> Iterator[Reader]:
    """The database, with what is new in these logs and in all it knows.

    Raises:
        LogError: one of these logs is missing, or is none.
    """
    place = directory()
    gone: frozenset[Place] = frozenset()
    try:
        with Writer.open(place) as writer:
            bring_up(writer, logs)
            gone = _cut_off(writer)
    except BusyError:
        terminal.complain(["another capsule is taking logs in; this is what is indexed so far"])
    with Reader.open(place) as reader:
        reader.cut_off = gone
        yield reader


def _cut_off(writer: Writer) -> frozenset[Place]:
    """Runs of this host without an end that nobody records any more: they were killed, or the host went down.

    One may have ended since its log was taken in: after it was seen that nobody records it, that is done once more.
    """
    question = (
        "SELECT runs.log, run, logs.log, path FROM runs JOIN logs ON number = runs.log WHERE ended IS NULL"
        " AND command IS NOT NULL AND state = 'whole' AND uid = ? AND host = ?"
    )
    about = (os.geteuid(), os.uname().nodename)
    rows = writer.connection.execute(question, about).fetchall()
    gone = [(number, run, path) for number, run, log, path in rows if held(run, log) is False]
    for path in {path for _, _, path in gone}:
        with contextlib.suppress(LogError):
            take_in(writer, [path], lambda _: None)
    open_ = (
        {(number, run) for number, run, _, _ in writer.connection.execute(question, about)} if gone else set()
    )
    return frozenset((number, run) for number, run, _ in gone) & open_


def bring_up(writer: Writer, logs: Iterable[Path]) -> int:
    """Take in the logs named, the default one, and all that are known; how many entries were new."""
    named = [str(log) for log in logs]
    try:
        return _bring_up(writer, named)
    except DamagedError as error:
        writer.renew(error.message)
        return _bring_up(writer, named)


def _bring_up(writer: Writer, named: list[str]) -> int:
    others = [*known(writer.connection), *writer.recovered]
    if not named and DEFAULT.is_file():
        others.append(str(DEFAULT))
    terminal.complain(writer.notes)
    writer.notes.clear()
    new = 0
    with progress(size_of([*named, *others])) as step:
        for path in named:
            taken = take_in(writer, [path], step)
            new += taken.entries
            terminal.complain(taken.notes)
        for path in others:
            try:
                taken = take_in(writer, [path], step)
            except LogError as error:
                terminal.complain([str(error)])
                continue
            new += taken.entries
            terminal.complain(taken.notes)
    return new


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal when there is much to take in."""
    if total < _LONG or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("taking logs in"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda step: bar.advance(task, step)


def find(reader: Reader, name: str | None, logs: Iterable[Path] = ()) -> Run:
    """The session of this name or beginning of a name; the newest one without a name.

    Raises:
        UsageError: there is none, or more than one.
    """
    columns = ", ".join(f"runs.{column}" for column in RUNS.names)
    question = f"SELECT {columns}, logs.path, logs.state FROM runs JOIN logs ON logs.number = runs.log"
    if name is None:
        rows = reader.all(f"{question} ORDER BY started DESC, runs.first DESC LIMIT 1")
        if not rows:
            raise UsageError(
                "there are no sessions yet", next_step="run a command with `capsule run`, or name a log"
            )
    else:
        begin = name if name.startswith("r-") else f"r-{name}"
        rows = reader.all(
            f"{question} WHERE substr(run, 1, ?) = ? ORDER BY started DESC LIMIT 6", (len(begin), begin)
        )
        rows = [row for row in rows if row[1] == begin] or rows
    found = [dict(zip((*RUNS.names, "path", "state"), row, strict=True)) for row in rows]
    if len(found) > 1 and (only := {str(log.absolute()) for log in logs}):
        found = [run for run in found if run["path"] in only]
    if not found:
        raise UsageError(f"there is no session {name!r}", next_step="see `capsule sessions list`")
    if len(found) > 1:
        names = ", ".join(f"{run['run']} ({terminal.near(run['path'])})" for run in found)
        raise UsageError(
            f"{name!r} is more than one session: {names}", next_step="give more of the name, or --log"
        )
    return {**found[0], "cut_off": (found[0]["log"], found[0]["run"]) in reader.cut_off}


def since(value: str | None) -> str:
    """`90s`, `2h`, `7d` before now, or a date or time (UTC) as it is, to compare with times of the log.

    Raises:
        UsageError: it is neither.
    """
    if value is None:
        return ""
    if found := _DURATION.fullmatch(value):
        before = timedelta(**{_UNITS[found[2]]: int(found[1])})
        return (datetime.fromtimestamp(time.time(), UTC) - before).strftime("%Y-%m-%dT%H:%M:%S")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise UsageError(
            f"{value!r} is no time", next_step="write 2h, 7d, 2026-11-25 or 2026-11-25T19:00"
        ) from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%dT%H:%M:%S")
