"""Asking the database: a connection that can only read, within a time and a number of rows. I/O.

It refuses every statement but a SELECT, whatever a caller writes: the file is opened read-only, an authorizer allows
reading and functions, and nothing else (no ATTACH, no PRAGMA, no extension). `REGEXP` and `cidr(address, network)`
are added.

    with Reader.open(directory) as reader:
        answer = reader.ask("SELECT host, count(*) FROM http GROUP BY host", limit=100, seconds=5.0)
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import itertools
import json
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from capsule.errors import CapsuleError, Fault
from capsule.sessions.database import SessionsError, damaged, reader
from capsule.sessions.schema import SEQ_BITS
from capsule.sessions.timeline import Happened

MAX_VALUE = 16 << 20
"""Longest text or blob a query may make, in bytes."""
MAX_ANSWER = 256 << 20
"""Most texts and blobs of one answer, in bytes."""
MAX_MEMORY = 512 << 20
"""What SQLite may hold while it works, in bytes."""
MAX_TEXT = 64 * 1024
"""What a regular expression looks at, in characters."""

_ALLOWED = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_REFUSED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"})
_STEPS = 1000
Place = tuple[int, str]
"""A session: the number of its log, and its name."""


class QueryError(CapsuleError):
    """The question cannot be answered."""

    fault = Fault.CALLER
    exit_code = 2


class SlowError(QueryError):
    """The question took longer than it may."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The columns' names, the rows, and whether there were more."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


def ids(run: Mapping[str, Any]) -> tuple[int, int]:
    """The first and the last id that events of a session, a row of `runs`, can have."""
    begin = run["log"] << SEQ_BITS
    return begin | run["first"], begin | run["last"]


class Reader:
    """A reading connection, with a deadline for each question.

    Attributes:
        cut_off: sessions without an end that nobody records any more, as whoever opened it found out.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.cut_off: frozenset[Place] = frozenset()
        self._connection = connection
        self._until = float("inf")
        self._why = ""
        # What makes these two tables out of JSON declares them when it is first used: before nothing may be declared.
        for source in ("json_each", "json_tree"):
            connection.execute(f"SELECT 1 FROM {source}('[]')").fetchall()
        connection.execute(f"PRAGMA hard_heap_limit = {MAX_MEMORY}")
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(self._late, _STEPS)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
        connection.create_function("regexp", 2, self._telling(_regexp), deterministic=True)
        connection.create_function("cidr", 2, self._telling(_cidr), deterministic=True)

    @classmethod
    @contextlib.contextmanager
    def open(cls, place: Path) -> Iterator[Reader]:
        """Open the database in this directory.

        Raises:
            SessionsError: there is none.
        """
        with contextlib.closing(reader(place)) as connection:
            yield cls(connection)

    def add(self, functions: Mapping[str, tuple[int, Callable[..., bool]]]) -> None:
        """Functions by name, with the number of their arguments; they take the place of those of that name."""
        for name, (arguments, function) in functions.items():
            self._connection.create_function(name, arguments, function, deterministic=True)

    def ask(
        self, sql: str, values: Sequence[Any] | dict[str, Any] = (), *, limit: int, seconds: float
    ) -> Answer:
        """One SELECT.

        Args:
            sql: the question.
            values: for its placeholders.
            limit: rows at most.
            seconds: how long it may take.

        Raises:
            QueryError: it is no SELECT, or not of the language, or needs too much memory.
            SlowError: it took too long.
            SessionsError: the file is damaged.
        """
        self._until = time.monotonic() + seconds
        try:
            with _alarm(seconds):
                cursor = self._connection.execute(sql, values)
                rows = _taken(cursor, limit + 1)
                described = cursor.description
                cursor.close()
        except MemoryError as error:
            raise QueryError(
                f"the query needs more than {MAX_MEMORY >> 20} MiB", next_step="ask for less at once"
            ) from error
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError, TimeoutError) as error:
            raise self._said(error, seconds) from error
        finally:
            self._until = float("inf")
        if described is None:
            raise QueryError(
                "the query asks nothing: it is empty, or only a comment",
                next_step="one SELECT; see docs/formats/sessions.md for the tables",
            )
        columns = tuple(str(column[0]) for column in described)
        return Answer(columns, rows[:limit], len(rows) > limit)

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a question of our own, which has no deadline."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._said(error, 0.0) from error

    def each(
        self, sql: str, values: Sequence[Any] = (), *, until: float = float("inf")
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a question of our own, one at a time; `until` on the clock `time.monotonic`."""
        self._until = until
        try:
            yield from self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self._said(error, 0.0) from error
        finally:
            self._until = float("inf")

    def happened(self, run: Mapping[str, Any]) -> Iterator[Happened]:
        """The events of a session, a row of `runs`, in order."""
        rows = self.each(
            "SELECT time, seq, type, entry, event FROM events WHERE id BETWEEN ? AND ? AND run = ? ORDER BY id",
            (*ids(run), run["run"]),
        )
        for moment, seq, kind, entry, event in rows:
            yield Happened(moment, seq, kind, entry, json.loads(event))

    def _telling(self, function: Callable[[Any, Any], bool | None]) -> Callable[[Any, Any], bool | None]:
        """The function, its complaint kept: SQLite says no more than that there was one."""

        def call(first: Any, second: Any) -> bool | None:
            try:
                return function(first, second)
            except ValueError as error:
                self._why = str(error)
                raise

        return call

    def _late(self) -> bool:
        return time.monotonic() > self._until

    def _said(self, error: Exception, seconds: float) -> CapsuleError:
        if isinstance(error, sqlite3.Error) and damaged(error):
            return SessionsError(
                f"the session database is damaged: {error}",
                next_step="`capsule sessions rebuild` makes it again from the logs",
            )
        if time.monotonic() > self._until:
            return SlowError(
                f"the query took longer than {seconds:g} s and was ended",
                next_step="ask for less, or give it more with --seconds",
            )
        if any(word in str(error) for word in ("not authorized", "prohibited", "authorization denied")):
            return QueryError(
                "a query only reads: one SELECT, no PRAGMA, no ATTACH",
                next_step="see docs/formats/sessions.md for the tables",
            )
        why = self._why if "user-defined function" in str(error) else str(error)
        return QueryError(
            f"the query is wrong: {why}", next_step="see docs/formats/sessions.md for the tables"
        )


def _taken(cursor: sqlite3.Cursor, most: int) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    held = 0
    for row in itertools.islice(cursor, most):
        held += sum(len(value) for value in row if isinstance(value, str | bytes))
        if held > MAX_ANSWER:
            raise QueryError(
                f"the answer is over {MAX_ANSWER >> 20} MiB",
                next_step="ask for fewer rows with --limit, or for less of each value",
            )
        rows.append(row)
    return rows


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or first or "").lower() in _REFUSED_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


@functools.lru_cache(maxsize=256)
def _pattern(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except (re.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from error


def _regexp(expression: Any, value: Any) -> bool | None:
    """`value REGEXP expression`: whether it is found anywhere in the value."""
    if expression is None or value is None:
        return None
    return _pattern(str(expression)).search(str(value)[:MAX_TEXT]) is not None


@functools.lru_cache(maxsize=256)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _cidr(address: Any, network: Any) -> bool | None:
    """Whether an address lies in a network; null for what is no address."""
    if address is None or network is None:
        return None
    net = _network(str(network))
    try:
        return ipaddress.ip_address(str(address)) in net
    except ValueError:
        return None


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """End what the progress handler cannot see: a regular expression that goes on and on within one step.

    Signals reach the main thread only; elsewhere the progress handler alone is the limit. A timer that somebody else
    had set goes on afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_: int, __: FrameType | None) -> None:
        raise TimeoutError

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds + 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)), interval)
