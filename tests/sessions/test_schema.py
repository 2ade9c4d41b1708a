from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from capsule.sessions import schema


def test_the_steps_make_the_tables() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in schema.steps(0):
            connection.execute(statement)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        for table in schema.TABLES:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")]
            assert tuple(columns) == table.names
            connection.execute(table.insert(), [1] * len(columns))
    assert list(schema.steps(schema.VERSION)) == []


def test_every_table_but_logs_and_runs_is_keyed_by_the_event() -> None:
    assert {table.names[0] for table in schema.INDEXED} == {"id"}
    assert {table.name for table in schema.TABLES} - {table.name for table in schema.INDEXED} == {
        "logs",
        "runs",
    }


def test_the_page_has_every_table_and_column(repository: Path) -> None:
    page = (repository / "docs/formats/sessions.md").read_text()
    for table in schema.TABLES:
        section = page.split(f"\n### {table.name}\n")[1].split("\n### ")[0]
        assert table.about in section
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", section, re.MULTILINE)
        assert rows == [(name, kind.split(" ")[0].lower(), meaning) for name, kind, meaning in table.columns]
    assert f"`PRAGMA user_version` is {schema.VERSION}" in page


def test_a_database_of_version_1_gets_the_columns_and_reads_logs_of_machines_again() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in (*schema.MIGRATIONS[0], "PRAGMA user_version = 1"):
            connection.execute(statement)
        for number, entry in ((1, "machine.exec"), (2, "exec")):
            place = number << schema.SEQ_BITS
            connection.execute(
                "INSERT INTO logs VALUES (?, ?, 'l', 5, 4, 300, x'', x'', 'whole', NULL)",
                (number, str(number)),
            )
            connection.execute(
                "INSERT INTO runs (log, run, first, last, started) VALUES (?, 'r', 0, 1, '')", (number,)
            )
            connection.execute("INSERT INTO events VALUES (?, 'r', 1, '', '', ?, '{}')", (place, entry))
            connection.execute("INSERT INTO process (id) VALUES (?)", (place,))
        for statement in schema.steps(1):
            connection.execute(statement)
        assert connection.execute("SELECT number, blocks FROM logs").fetchall() == [(1, 0), (2, 4)]
        for table in ("events", "process"):
            assert connection.execute(f"SELECT id >> 40 FROM {table}").fetchall() == [(2,)]
        assert connection.execute("SELECT log FROM runs").fetchall() == [(2,)]
        assert connection.execute("SELECT reported_by FROM process").fetchall() == [(None,)]
