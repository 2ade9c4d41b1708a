"""The database beside its logs: made again from them in one transaction, or compared with them row by row. I/O.

Rows of logs that are not there any more cannot be made again: they are kept, and said. It refuses to compare while
another process writes.

    differences = compare(writer, fresh)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from capsule.sessions.database import Writer
from capsule.sessions.ingest import Progress, Taken, failed, take_in
from capsule.sessions.schema import INDEXED, RUNS, SEQ_BITS, Table

READABLE = "state IN ('whole', 'rolled_back', 'broken', 'missing')"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that is not what the log says: `what` is `missing`, `extra` or `other`."""

    table: str
    log: str
    seq: int
    what: str


def rebuild(writer: Writer, paths: list[str], progress: Progress = lambda _: None) -> Taken:
    """Make the rows of these logs again, all of them in one transaction: a crash leaves what was there before.

    Raises:
        LogError: a log cannot be read; nothing was changed.
    """
    connection = writer.connection
    connection.execute("BEGIN IMMEDIATE")
    try:
        for path in paths:
            for (number,) in connection.execute(
                "SELECT number FROM logs WHERE path = ? AND state <> 'replaced'", (path,)
            ).fetchall():
                _forget(connection, number)
        taken = take_in(writer, paths, progress)
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise failed(error) from error
        raise
    return taken


def _forget(connection: sqlite3.Connection, number: int) -> None:
    for table in INDEXED:
        connection.execute(
            f"DELETE FROM {table.name} WHERE id BETWEEN ? AND ?",
            (number << SEQ_BITS, ((number + 1) << SEQ_BITS) - 1),
        )
    connection.execute("DELETE FROM runs WHERE log = ?", (number,))
    connection.execute(
        "UPDATE logs SET entries = 0, blocks = 0, last = 0, sealed = zeroblob(32), prev = zeroblob(32) "
        "WHERE number = ?",
        (number,),
    )


def compare(
    writer: Writer, fresh: Writer, progress: Progress = lambda _: None
) -> tuple[int, list[str], Iterator[Difference]]:
    """Make everything again in `fresh`, an empty database elsewhere, and compare.

    Args:
        writer: the database, brought up to date.
        fresh: an empty one.
        progress: told of bytes read.

    Returns:
        How many entries were compared, what a person should know, and the differences, in the order of the tables.
    """
    rows = writer.connection.execute(
        f"SELECT number, log, path, entries FROM logs WHERE {READABLE} AND state <> 'missing' ORDER BY number"
    ).fetchall()
    for number, log, path, _ in rows:
        fresh.connection.execute(
            "INSERT INTO logs VALUES (?, ?, ?, 0, 0, 0, zeroblob(32), zeroblob(32), 'whole', NULL)",
            (number, log, path),
        )
    taken = take_in(fresh, [path for _, _, path, _ in rows], progress, until={row[1]: row[3] for row in rows})
    fresh.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    names = {number: log for number, log, _, _ in rows}
    return taken.entries, taken.notes, _differences(writer.connection, fresh, names)


def _differences(
    connection: sqlite3.Connection, fresh: Writer, names: dict[int, str]
) -> Iterator[Difference]:
    connection.execute("ATTACH ? AS fresh", (str(fresh.file),))
    try:
        for number, log in names.items():
            for table in (RUNS, *INDEXED):
                yield from _table(connection, table, number, log)
    finally:
        connection.execute("DETACH fresh")


def _table(connection: sqlite3.Connection, table: Table, number: int, log: str) -> Iterator[Difference]:
    columns = ", ".join(table.names)
    mine = "log = ?1" if table is RUNS else f"id BETWEEN ?1 << {SEQ_BITS} AND ((?1 + 1) << {SEQ_BITS}) - 1"
    place = "first" if table is RUNS else f"id & {(1 << SEQ_BITS) - 1}"

    def only(one: str, other: str) -> set[int]:
        here, there = (f"SELECT {columns} FROM {base}.{table.name} WHERE {mine}" for base in (one, other))
        found = connection.execute(f"SELECT {place} FROM ({here} EXCEPT {there})", (number,))
        return {int(seq) for (seq,) in found}

    extra, missing = only("main", "fresh"), only("fresh", "main")
    for seq in sorted(extra | missing):
        what = "other" if seq in extra and seq in missing else "extra" if seq in extra else "missing"
        yield Difference(table.name, log, seq, what)
