"""`capsule sessions rebuild`: the database again from the logs, or compared with them."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.sessions.source import bring_up, log_option, progress
from capsule.sessions.compare import READABLE, compare, rebuild
from capsule.sessions.database import Writer, directory
from capsule.sessions.ingest import size_of

SHOWN = 50


@click.command("rebuild", epilog="Example: capsule sessions rebuild --check")
@log_option
@click.option("--check", is_flag=True, help="Change nothing: compare every row with what the logs say.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(*, logs: tuple[Path, ...], check: bool, as_json: bool) -> int:
    """Make the database again from the logs it knows, in one step; sessions of logs that are gone are kept.

    With --check: make it again elsewhere and compare row by row. Exits 1 when a row differs, and names its seq.
    """
    with Writer.open(directory(), wait=30) as writer:
        bring_up(writer, logs)
        paths = [
            str(path)
            for (path,) in writer.connection.execute(
                f"SELECT path FROM logs WHERE {READABLE} AND state <> 'missing'"
            )
        ]
        kept = writer.connection.execute(
            "SELECT path, state FROM logs WHERE state IN ('missing', 'replaced')"
        ).fetchall()
        for path, state in kept:
            terminal.complain([f"{path} is {state}: what was indexed of it is kept as it is"])
        return _check(writer, paths, as_json=as_json) if check else _rebuild(writer, paths, as_json=as_json)


def _rebuild(writer: Writer, paths: list[str], *, as_json: bool) -> int:
    with progress(size_of(paths)) as step:
        taken = rebuild(writer, paths, step)
    terminal.complain(taken.notes)
    if as_json:
        terminal.say_json({"logs": len(paths), "entries": taken.entries})
    else:
        terminal.say(f"{taken.entries} entries of {len(paths)} logs are indexed again")
    return 0


def _check(writer: Writer, paths: list[str], *, as_json: bool) -> int:
    (sound,) = writer.connection.execute("PRAGMA integrity_check(1)").fetchone()
    with (
        tempfile.TemporaryDirectory(prefix="sessions-check-", dir=writer.place) as place,
        Writer.open(Path(place)) as fresh,
        progress(size_of(paths)) as step,
    ):
        entries, notes, differences = compare(writer, fresh, step)
        terminal.complain(notes)
        found = list(islice(differences, 100_000))
    if as_json:
        rows = [{"table": row.table, "log": row.log, "seq": row.seq, "what": row.what} for row in found]
        terminal.say_json({"entries": entries, "integrity": sound, "differences": rows})
    else:
        for row in found[:SHOWN]:
            terminal.say(f"{row.table:<10} seq {row.seq:<10} {row.what:<8} log {row.log[:8]}")
        if len(found) > SHOWN:
            terminal.say(f"… {len(found) - SHOWN} more")
        if sound != "ok":
            terminal.say(f"the file is damaged: {sound}")
        verdict = (
            "the database says what the logs say"
            if not found and sound == "ok"
            else "`capsule sessions rebuild` mends it"
        )
        terminal.say(f"{entries} entries compared, {len(found)} rows differ: {verdict}")
    return 1 if found or sound != "ok" else 0
