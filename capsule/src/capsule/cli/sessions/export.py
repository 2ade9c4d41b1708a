"""`capsule sessions export`: sessions for other programs, as JSON lines or as OpenTelemetry's."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import click

from capsule.cli import terminal
from capsule.cli.output import lines
from capsule.cli.sessions.source import Run, SessionName, find, log_option, opened, since
from capsule.cli.sessions.story import public
from capsule.errors import UsageError
from capsule.sessions.collector import Collector
from capsule.sessions.otlp import logs as log_records
from capsule.sessions.otlp import traces
from capsule.sessions.query import Reader
from capsule.sessions.timeline import microseconds

AT_ONCE = 500
"""Spans or records a message: collectors bound what they take."""


@click.command("export", epilog="Example: capsule sessions export otlp --endpoint http://127.0.0.1:4318")
@click.argument("form", type=click.Choice(["jsonl", "otlp"]))
@click.argument("sessions", nargs=-1, metavar="[SESSION]...", type=SessionName())
@log_option
@click.option("--all", "all_", is_flag=True, help="Every session.")
@click.option(
    "--since", "since_", metavar="WHEN", help="Every session begun since then: 2h, 7d, or a date in UTC."
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write there, not to standard output."
)
@click.option("--endpoint", metavar="URL", help="otlp: hand it to a collector, by OTLP over HTTP.")
@click.option(
    "--header", "headers", metavar="NAME=VALUE", multiple=True, help="otlp: a header the collector wants."
)
def command(
    *,
    form: str,
    sessions: tuple[str, ...],
    logs: tuple[Path, ...],
    all_: bool,
    since_: str | None,
    out: Path | None,
    endpoint: str | None,
    headers: tuple[str, ...],
) -> None:
    """Export SESSION... (the newest): `jsonl`, one event a line with its place on the log; `otlp`, one message a line.

    With --endpoint, otlp is handed to a collector: a trace a session, its requests and model calls as
    spans, its refusals, findings, programs and files as log records.
    """
    if (endpoint or headers) and form != "otlp":
        raise UsageError("--endpoint and --header belong to otlp", next_step="write `export otlp`")
    if endpoint and out:
        raise UsageError("--endpoint and --out are two ways to go", next_step="choose one")
    with opened(logs) as reader:
        runs = _runs(reader, sessions, logs, since(since_), every=all_ or since_ is not None)
        if endpoint:
            _hand_over(reader, runs, endpoint, headers)
            return
        found = (
            _events(reader, runs) if form == "jsonl" else (message for _, message in _messages(reader, runs))
        )
        # Closed before the database is, also where whoever read it has gone.
        with contextlib.closing(found), _written(out) as write:
            for line in found:
                write(line)


def _runs(
    reader: Reader, names: tuple[str, ...], logs: tuple[Path, ...], begin: str, *, every: bool
) -> list[Run]:
    if every and names:
        raise UsageError("--all and --since choose the sessions", next_step="leave the names out")
    if not every:
        return [_whole(reader, find(reader, name, logs)) for name in names or (None,)]
    rows = reader.all(
        "SELECT run, logs.path FROM runs JOIN logs ON number = runs.log WHERE started >= ? ORDER BY started",
        (begin,),
    )
    return [_whole(reader, find(reader, str(run), [Path(str(path))])) for run, path in rows]


def _whole(reader: Reader, run: Run) -> Run:
    """The run with its log's id and the time of its last entry, which a run without an end needs."""
    ((log,),) = reader.all("SELECT log FROM logs WHERE number = ?", (run["log"],))
    ((last,),) = reader.all("SELECT time FROM events WHERE id = ?", ((run["log"] << 40) | run["last"],))
    return {**run, "log_id": log, "last_us": microseconds(last)}


def _events(reader: Reader, runs: list[Run]) -> Generator[dict[str, Any]]:
    for run in runs:
        yield {"session": public({key: value for key, value in run.items() if key != "last_us"})}
        for each in reader.happened(run):
            yield {
                "log": run["log_id"], "run": run["run"], "seq": each.seq, "time": each.time, "type": each.type,
                "entry": each.entry, "event": each.event,
            }  # fmt: skip


def _messages(reader: Reader, runs: list[Run]) -> Iterator[tuple[str, dict[str, Any]]]:
    for run in runs:
        for signal, make, outer, scope, inner in (
            ("traces", traces, "resourceSpans", "scopeSpans", "spans"),
            ("logs", log_records, "resourceLogs", "scopeLogs", "logRecords"),
        ):
            whole = make(run, reader.happened(run))
            (resource,) = whole[outer]
            (found,) = resource[scope]
            for at in range(0, len(found[inner]), AT_ONCE):
                part = {**found, inner: found[inner][at : at + AT_ONCE]}
                yield signal, {outer: [{**resource, scope: [part]}]}


def _hand_over(reader: Reader, runs: list[Run], endpoint: str, headers: tuple[str, ...]) -> None:
    wanted = dict(header.partition("=")[::2] for header in headers)
    if any(not name or not value for name, value in wanted.items()):
        raise UsageError("a --header is NAME=VALUE", next_step="write --header Authorization='Bearer …'")
    sent = 0
    with Collector(endpoint, wanted) as collector:
        for signal, message in _messages(reader, runs):
            collector.send(signal, message)
            sent += 1
        terminal.say(
            f"{len(runs)} sessions handed over in {sent} messages; {collector.rejected} spans or records refused"
        )


@contextlib.contextmanager
def _written(out: Path | None) -> Iterator[Callable[[dict[str, Any]], object]]:
    """Lines of JSON, whose characters cannot drive a terminal."""

    def text(line: dict[str, Any]) -> str:
        return terminal.escaped(json.dumps(line, ensure_ascii=False, separators=(",", ":"))) + "\n"

    if out is None:
        yield lambda line: sys.stdout.write(text(line))
        sys.stdout.flush()
        return
    with lines(out) as file:
        yield lambda line: file.write(text(line))
