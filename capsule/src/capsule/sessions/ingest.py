"""Taking logs into the database: what is new since the last time, block by block along the chain. I/O.

Rows and the place up to which they go are one transaction: after a crash the next one goes on without loss and
without doubles. It refuses to go on where the chain does not: a log that was replaced, rolled back or changed is
said, and what was indexed of it before stays. It does not verify signatures: `capsule verify` does.

    taken = take_in(writer, ["capsule.log"])
    taken.entries, taken.notes
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from capsule.audit import chain, verifier
from capsule.audit.entry import EntryError, parse
from capsule.audit.store import LogError, chunks
from capsule.sessions.database import GROW, DamagedError, SessionsError, Writer, damaged, outgrown
from capsule.sessions.rows import Batch, read_line
from capsule.sessions.schema import INDEXED

BATCH = 20_000
"""Entries a transaction, about."""

Blocks = Iterator[tuple[chain.Split, bytes]]
Progress = Callable[[int], None]
"""Told of bytes read."""

_INSERTS = tuple((table.name, table.insert()) for table in INDEXED)
_RUN = (
    "INSERT INTO runs (log, run, first, started, last) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (log, run) DO UPDATE SET last = excluded.last"
)
_STARTED = (
    "UPDATE runs SET command = ?, cwd = ?, policy = ?, policy_file = ?, policy_digest = ?, plan = ?, tier = ?, "
    "degraded = ?, audit = ?, uid = ?, host = ?, version = ? WHERE log = ? AND run = ?"
)
_ENDED = (
    "UPDATE runs SET ended = ?, cause = ?, code = ?, signal = ?, reason = ?, denials = ?, executed = ?, written = ?, "
    "wall_ms = ?, cpu_ms = ?, max_rss_bytes = ? WHERE log = ? AND run = ?"
)


@dataclass(slots=True)
class Taken:
    """What came in.

    Attributes:
        entries: how many entries were new.
        notes: what a person should know: logs that are not what they were.
    """

    entries: int = 0
    notes: list[str] = field(default_factory=list)


class _StopError(Exception):
    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state, self.why = state, why


@dataclass(slots=True)
class _Place:
    """Where the index stands in one log: a row of `logs`."""

    number: int
    log: str
    path: str
    entries: int = 0
    blocks: int = 0
    last: int = 0
    sealed: bytes = chain.START
    prev: bytes = chain.START
    whole: bytes = chain.START
    end: int = 0

    def save(self, connection: sqlite3.Connection, state: str = "whole", why: str | None = None) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO logs (number, log, path, entries, blocks, last, sealed, prev, state, why) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.number, self.log, self.path, self.entries, self.blocks, self.last, self.sealed, self.prev,
                state, why,
            ),
        )  # fmt: skip


def known(connection: sqlite3.Connection) -> list[str]:
    """The paths of the logs that are indexed and were not replaced there, in the order they came."""
    rows = connection.execute("SELECT path FROM logs WHERE state <> 'replaced' ORDER BY number")
    return list(dict.fromkeys(str(path) for (path,) in rows))


def size_of(paths: Iterable[str]) -> int:
    """Bytes of the logs that are there."""
    return sum(os.stat(path).st_size for path in paths if os.path.isfile(path))  # noqa: PTH113, PTH116


def take_in(
    writer: Writer,
    paths: Iterable[str],
    progress: Progress = lambda _: None,
    *,
    until: Mapping[str, int] | None = None,
) -> Taken:
    """Index what is new in these logs.

    Args:
        writer: the open database.
        paths: logs; a missing one is noted where it was indexed before, else an error.
        progress: told of every piece that was read.
        until: how many entries of which log (by id) to read; all, where it is not named.

    Raises:
        LogError: a log cannot be read, or is none.
        SessionsError: the database cannot be written.
    """
    taken = Taken()
    for path in dict.fromkeys(os.path.abspath(path) for path in paths):  # noqa: PTH100 - without following links
        try:
            _take_one(writer.connection, path, taken, progress, until)
        except sqlite3.Error as error:
            raise failed(error) from error
    return taken


def failed(error: sqlite3.Error) -> SessionsError:
    """What a failure of SQLite's means for the one who asked."""
    if damaged(error):
        step = "`capsule sessions rebuild` makes it again from the logs"
        return DamagedError(f"the session database is damaged: {error}", next_step=step)
    step = GROW if outgrown(error) else "make room there, then try again"
    return SessionsError(f"the session database cannot be written: {error}", next_step=step)


def _take_one(
    connection: sqlite3.Connection,
    path: str,
    taken: Taken,
    progress: Progress,
    until: Mapping[str, int] | None,
) -> None:
    if not Path(path).exists():
        found = connection.execute(
            "SELECT number FROM logs WHERE path = ? AND state <> 'replaced'", (path,)
        ).fetchone()
        if found is None:
            raise LogError(
                f"there is no log at {path!r}", next_step="name one with --log, or run a command first"
            )
        _mark(connection, found[0], "missing", "it is not where it was")
        return
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a FIFO would hang when opened
        raise LogError(f"{path!r} is not a regular file", next_step="name a log")
    log = _identity(path)
    before = connection.execute(
        "SELECT number, log FROM logs WHERE path = ? AND log <> ? AND state <> 'replaced'", (path, log)
    ).fetchall()
    for number, other in before:
        _mark(connection, number, "replaced", f"another log is at {path} now")
        taken.notes.append(
            f"{path} is another log now ({log[:8]}…, before: {other[:8]}…); the sessions of that one stay indexed"
        )
    place = _place(connection, log, path)
    try:
        taken.entries += _follow(connection, place, _resume(place, path), progress, (until or {}).get(log))
    except _StopError as stop:
        place.save(connection, stop.state, stop.why)
        taken.notes.append(
            f"{path}: {stop.why}; nothing new of it is indexed: check it with `capsule verify {path}`, then "
            "`capsule sessions rebuild` indexes what it is now"
        )


def _mark(connection: sqlite3.Connection, number: int, state: str, why: str) -> None:
    connection.execute("UPDATE logs SET state = ?, why = ? WHERE number = ?", (state, why, number))


def _identity(path: str) -> str:
    """The id in the log's first entry."""
    found, data = next(verifier.blocks(chunks(path)), (chain.Malformed(0, "it is empty"), b""))
    if isinstance(found, chain.Block):
        try:
            first = parse(found.entries(data)[:-1])
        except EntryError:
            first = None
        log = first.fields.get("log") if first is not None and first.kind == "log.created" else None
        if isinstance(log, str) and len(log) == 32 and not set(log) - set("0123456789abcdef"):
            return log
    raise LogError(
        f"{path!r} is not a capsule log", next_step="name a log with --log; `capsule run` makes one"
    )


def _place(connection: sqlite3.Connection, log: str, path: str) -> _Place:
    row = connection.execute(
        "SELECT number, log, path, entries, blocks, last, sealed, prev FROM logs WHERE log = ?", (log,)
    ).fetchone()
    if row is not None:
        place = _Place(*row)
        place.path = path
        return place
    (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM logs").fetchone()
    return _Place(number, log, path)


def _resume(place: _Place, path: str) -> Blocks:
    """The blocks after those that are indexed, when the last of those is still the one it was."""
    blocks = verifier.blocks(chunks(path, place.last))
    if not place.blocks:
        return blocks
    found, data = next(blocks, (chain.Torn(), b""))
    where = f"entry {place.entries - 1}, which is indexed,"
    if not isinstance(found, chain.Block):
        raise _StopError("rolled_back", f"{where} is not there any more: the log was cut or rolled back")
    header, sealed = found.header, chain.digest(data[: found.length - found.note])
    if sealed != place.sealed or header.prev != place.prev or header.block != place.blocks - 1:
        raise _StopError("rolled_back", f"{where} is another one now: the log was rewritten or rolled back")
    # The checkpoint line of that block may have come later; the next block names all of it.
    place.whole = chain.digest(data) if found.note else sealed
    place.end = place.last + len(data)
    return blocks


def _follow(
    connection: sqlite3.Connection,
    place: _Place,
    blocks: Blocks,
    progress: Progress,
    until: int | None,
) -> int:
    """Index blocks to the log's end; how many entries came in."""
    before = place.entries
    batch, stop = Batch(place.number), None
    for found, data in blocks:
        if isinstance(found, chain.Malformed):
            stop = _StopError("broken", f"what follows entry {place.entries - 1} is no block: {found.why}")
        if not isinstance(found, chain.Block) or (until is not None and found.header.first >= until):
            break  # a block that is being written, or was torn: the next time says which
        try:
            _add(batch, place, found, data)
        except EntryError as error:
            stop = _StopError("broken", f"block {place.blocks} is not of the log's form: {error.why}")
            break
        except _StopError as error:
            stop = error
            break
        place.last, place.end = place.end, place.end + len(data)
        progress(len(data))
        if batch.count >= BATCH:
            _commit(connection, place, batch)
            batch = Batch(place.number)
    _commit(connection, place, batch)
    if stop is not None:
        raise stop
    return place.entries - before


def _add(batch: Batch, place: _Place, found: chain.Block, data: bytes) -> None:
    header = found.header
    if header.prev != place.whole or header.block != place.blocks or header.first != place.entries:
        raise _StopError("broken", f"block {header.block} does not follow the one before")
    lines = found.entries(data)[:-1].split(b"\n")
    if len(lines) != header.count:
        raise EntryError("another number of entries than its header says")
    entries = [read_line(line) for line in lines]  # all of them before the first row: a block comes in whole
    for seq, entry in enumerate(entries, header.first):
        if entry["seq"] != seq:
            raise EntryError(f"an entry should have seq {seq}")
    for entry in entries:
        batch.add(entry)
    place.sealed = chain.digest(data[: found.length - found.note])
    place.whole = chain.digest(data) if found.note else place.sealed
    place.prev = header.prev
    place.blocks += 1
    place.entries += header.count


def _commit(connection: sqlite3.Connection, place: _Place, batch: Batch) -> None:
    # Within a rebuild this is a part of its one transaction; else it is a transaction.
    connection.execute("SAVEPOINT batch")
    try:
        for name, insert in _INSERTS:
            if rows := batch.rows[name]:
                connection.executemany(insert, rows)
        connection.executemany(
            _RUN,
            [(place.number, run, seq, time, batch.last[run]) for run, (seq, time) in batch.runs.items()],
        )
        connection.executemany(_STARTED, batch.started)
        connection.executemany(_ENDED, batch.ended)
        place.save(connection)
        connection.execute("RELEASE batch")
    except BaseException:
        if connection.in_transaction:  # of a full disk SQLite itself takes everything back
            connection.execute("ROLLBACK TO batch")
            connection.execute("RELEASE batch")
        raise
