from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capsule.audit.store import LogError
from capsule.sessions.compare import Difference, compare, rebuild
from capsule.sessions.database import Writer, directory
from capsule.sessions.ingest import Taken, take_in
from capsule.sessions.schema import INDEXED
from tests.native.log import Log
from tests.sessions.recorded import machine, session

Take = Callable[..., Taken]


def differences(writer: Writer, tmp_path: Path) -> list[Difference]:
    place = tmp_path / "fresh"
    place.mkdir()
    with Writer.open(place) as fresh:
        entries, notes, found = compare(writer, fresh)
        assert (entries, notes) == (35, [])
        return list(found)


def test_it_is_what_the_log_says(taken: Take, tmp_path: Path) -> None:
    taken([*session(), *machine()])
    with Writer.open(directory()) as writer:
        assert differences(writer, tmp_path) == []


@pytest.mark.parametrize("table", [table.name for table in INDEXED])
def test_a_changed_row_is_found_in_every_table(taken: Take, tmp_path: Path, table: str) -> None:
    taken([*session(), *machine()])
    with Writer.open(directory()) as writer:
        (row,) = writer.connection.execute(f"SELECT max(rowid) FROM {table}").fetchone()
        (seq,) = writer.connection.execute(
            f"SELECT id & 1099511627775 FROM {table} WHERE rowid = {row}"
        ).fetchone()
        writer.connection.execute(f"UPDATE {table} SET run = 'r-other' WHERE rowid = {row}")
        found = differences(writer, tmp_path)
    assert [(each.table, each.seq, each.what) for each in found] == [(table, seq, "other")]
    assert len(found[0].log) == 32


def test_missing_and_extra_rows_are_found(taken: Take, tmp_path: Path) -> None:
    taken([*session(), *machine()])
    with Writer.open(directory()) as writer:
        writer.connection.execute("DELETE FROM process WHERE id = (SELECT min(id) FROM process)")
        writer.connection.execute("INSERT INTO process (id, run) SELECT max(id), 'r-x' FROM events")
        writer.connection.execute("UPDATE runs SET code = 0")
        found = differences(writer, tmp_path)
    assert [(each.table, each.what) for each in found] == [
        ("runs", "other"),
        ("runs", "other"),
        ("process", "missing"),
        ("process", "extra"),
    ]


def test_a_rebuild_mends_and_keeps_numbers(taken: Take, log: Log, tmp_path: Path) -> None:
    taken([*session(), *machine()])
    with Writer.open(directory()) as writer:
        before = writer.connection.execute("SELECT * FROM events").fetchall()
        writer.connection.execute("UPDATE events SET type = 'x'")
        writer.connection.execute("DELETE FROM runs")
        assert rebuild(writer, [str(log.path)]).entries == 35
        assert writer.connection.execute("SELECT * FROM events").fetchall() == before
        assert differences(writer, tmp_path) == []


def test_a_rebuild_that_fails_changes_nothing(taken: Take, log: Log) -> None:
    taken([*session(), *machine()])
    log.path.with_name("bad").write_text("no log\n")
    with Writer.open(directory()) as writer:
        before = writer.connection.execute("SELECT * FROM events").fetchall()
        with pytest.raises(LogError):
            rebuild(writer, [str(log.path), str(log.path.with_name("bad"))])
        assert writer.connection.execute("SELECT * FROM events").fetchall() == before


def test_a_log_that_grew_meanwhile_is_compared_as_far_as_it_is_indexed(
    taken: Take, log: Log, tmp_path: Path
) -> None:
    taken([*session(), *machine()])
    log.record(session("r-2"))
    with Writer.open(directory()) as writer:
        assert differences(writer, tmp_path) == []
        assert take_in(writer, [str(log.path)]).entries == 26
