from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from capsule.sessions.database import FILE, SessionsError, Writer, directory
from capsule.sessions.ingest import Taken
from capsule.sessions.query import QueryError, Reader, SlowError
from capsule.sessions.schema import VERSION
from tests.sessions.recorded import session

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
def asked(taken: Callable[..., Taken]) -> Iterator[Reader]:
    taken(session())
    with Reader.open(directory()) as reader:
        yield reader


def ask(reader: Reader, sql: str, **more: float) -> list[tuple[object, ...]]:
    return reader.ask(sql, limit=int(more.get("limit", 100)), seconds=more.get("seconds", 20.0)).rows


def test_answers(asked: Reader) -> None:
    answer = asked.ask("SELECT host, count(*) AS n FROM http GROUP BY host", limit=10, seconds=20.0)
    assert (answer.columns, answer.rows, answer.more) == (("host", "n"), [("api.example.org", 2)], False)
    assert ask(asked, "SELECT json_extract(event, '$.http.method') FROM events WHERE type = 'http' ORDER BY id") == [
        ("GET",), ("POST",),
    ]  # fmt: skip
    cut = asked.ask("SELECT seq FROM events ORDER BY id", limit=3, seconds=20.0)
    assert (cut.rows, cut.more) == ([(0,), (1,), (2,)], True)
    assert asked.all("SELECT count(*) FROM runs") == [(1,)]
    assert list(asked.each("SELECT rule FROM findings")) == [("secret-then-egress",)]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM events", "UPDATE runs SET code = 0", "INSERT INTO logs DEFAULT VALUES", "DROP TABLE http",
        "CREATE TEMP TABLE x (y)", "ATTACH '/tmp/x.db' AS x", "DETACH main", "PRAGMA user_version",
        "PRAGMA query_only = 0",
        "SELECT load_extension('x')", "SELECT * FROM pragma_table_info('runs')", "VACUUM INTO '/tmp/x'", "BEGIN",
        "REINDEX", "ANALYZE", "SAVEPOINT x",
    ],
)  # fmt: skip
def test_it_only_reads(asked: Reader, sql: str) -> None:
    with pytest.raises(QueryError, match="only reads"):
        ask(asked, sql)
    assert asked.all("SELECT count(*) FROM events") == [(27,)]


def test_without_the_authorizer_the_file_is_still_read_only(asked: Reader) -> None:
    """The positive control of the test above, and the second wall."""
    asked._connection.set_authorizer(None)
    with pytest.raises(QueryError, match="readonly"):
        ask(asked, "DELETE FROM events")
    assert ask(asked, "PRAGMA user_version") == [(VERSION,)]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT * FROM nope", "no such table: nope"),
        ("SELECT", "incomplete input"),
        ("", "asks nothing"),
        (" -- nothing", "asks nothing"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT 'x' REGEXP '('", "not a regular expression"),
        ("SELECT cidr('10.0.0.1', 'x/8')", "does not appear to be"),
        ("SELECT zeroblob(1000000000)", "too big"),
        ("SELECT replace(hex(zeroblob(8000000)), '0', 'aaaaaaaa')", "too big"),
        ("SELECT 1 WHERE ?", "supplied"),
        ("SELECT '\0'", "null character"),
    ],
)
def test_wrong_questions_say_why(asked: Reader, sql: str, why: str) -> None:
    with pytest.raises(QueryError, match=why):
        ask(asked, sql)


def test_lists_in_json_are_tables(asked: Reader) -> None:
    rows = ask(
        asked,
        "SELECT value FROM events, json_each(event, '$.process.argv') WHERE events.type = 'process' LIMIT 2",
    )
    assert rows == [("git",), ("status",)]
    assert ask(asked, "SELECT count(*) FROM json_tree('[1,[2]]')") == [(4,)]


def test_functions(asked: Reader) -> None:
    assert ask(asked, "SELECT 'abc' REGEXP 'b.$', 'abc' REGEXP '^b', NULL REGEXP 'x', 12 REGEXP '2'") == [
        (1, 0, None, 1)
    ]
    pairs = ("'10.1.2.3', '10.0.0.0/8'", "'::1', '10.0.0.0/8'", "'x', '10.0.0.0/8'", "NULL, ''")
    assert [ask(asked, f"SELECT cidr({pair})")[0][0] for pair in pairs] == [1, 0, None, None]


@pytest.mark.parametrize(
    "sql", [ENDLESS, f"SELECT '{'a' * 40}b' REGEXP '(a+)+c'"], ids=["recursion", "expression"]
)
def test_it_ends_in_time(asked: Reader, sql: str) -> None:
    before = time.monotonic()
    with pytest.raises(SlowError, match="took longer than"):
        ask(asked, sql, seconds=0.2)
    assert time.monotonic() - before < 10
    assert ask(asked, "SELECT 1") == [(1,)]


def test_it_ends_in_time_in_a_thread_too(taken: Callable[..., Taken]) -> None:
    taken(session())
    found: list[BaseException] = []

    def run() -> None:
        with Reader.open(directory()) as reader:
            try:
                ask(reader, ENDLESS, seconds=0.2)
            except SlowError as error:
                found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert len(found) == 1


def test_a_damaged_file_is_said(taken: Callable[..., Taken]) -> None:
    with pytest.raises(SessionsError, match="no session database"), Reader.open(directory()):
        pass
    taken(session())
    with Writer.open(directory()) as writer:
        writer.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = directory() / FILE
    path.write_bytes(path.read_bytes()[:8192] + b"\xaa" * 400_000)
    with Reader.open(directory()) as reader, pytest.raises(SessionsError, match="sessions rebuild"):
        reader.all("SELECT * FROM events")


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 100) SELECT zeroblob(16000000) FROM c",
         "the answer is over 256 MiB"),
        ("SELECT " + ", ".join(["zeroblob(16000000)"] * 100), "the query needs more than 512 MiB"),
    ],
)  # fmt: skip
def test_memory_is_limited(asked: Reader, sql: str, why: str) -> None:
    with pytest.raises(QueryError, match=why):
        ask(asked, sql, limit=1000)
    assert ask(asked, "SELECT length(zeroblob(1000000))") == [(1000000,)], "it answers on"
