from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from capsule.sessions import database
from capsule.sessions.database import FILE, LOCK, BusyError, SessionsError, Writer, directory, reader
from capsule.sessions.schema import VERSION


@pytest.fixture
def place() -> Path:
    return directory()


def logs(place: Path) -> int:
    with closing(reader(place)) as connection:
        return int(connection.execute("SELECT count(*) FROM logs").fetchone()[0])


def test_the_file_is_ours_alone(place: Path) -> None:
    with Writer.open(place) as writer:
        assert writer.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        writer.connection.execute("INSERT INTO logs VALUES (1, 'x', '/l', 0, 0, 0, x'', x'', 'whole', NULL)")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}
    assert set(modes) >= {FILE, LOCK, f"{FILE}-wal"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_one_writer_and_readers_beside_it(place: Path) -> None:
    with Writer.open(place) as writer:
        writer.connection.execute("BEGIN IMMEDIATE")
        writer.connection.execute("INSERT INTO logs VALUES (1, 'x', '/l', 0, 0, 0, x'', x'', 'whole', NULL)")
        with pytest.raises(BusyError, match="another capsule is filling"), Writer.open(place):
            pass
        before = time.monotonic()
        assert logs(place) == 0
        assert time.monotonic() - before < 5
        writer.connection.execute("COMMIT")
        assert logs(place) == 1


def test_a_writer_can_be_waited_for(place: Path) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Writer.open(place):
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    threading.Timer(0.1, done.set).start()
    with Writer.open(place, wait=20):
        assert done.is_set()
    thread.join()


def test_a_reader_cannot_write(place: Path) -> None:
    with pytest.raises(SessionsError, match="no session database"):
        reader(place)
    with Writer.open(place):
        pass
    with closing(reader(place)) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM logs")


@pytest.mark.parametrize("damage", ["garbage", "header", "middle"])
def test_a_damaged_file_is_moved_aside_and_said(place: Path, damage: str) -> None:
    path = place / FILE
    with Writer.open(place) as writer:
        for number in range(2000):
            writer.connection.execute(
                "INSERT INTO logs VALUES (?, ?, ?, 0, 0, 0, x'', x'', 'whole', NULL)",
                (number, f"l{number}", f"/{number}"),
            )
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data = bytearray(b"nothing of ours" * 1000)
    elif damage == "header":
        data[20:90] = os.urandom(70)
    else:
        data[8192 * 20 : 8192 * 24] = b"\xaa" * (8192 * 4)
        (place / LOCK).write_bytes(b"1")  # the writer before died: the file is checked
    path.write_bytes(data)
    with Writer.open(place) as writer:
        assert len(writer.notes) == 1
        assert "made again from the logs" in writer.notes[0]
        assert writer.connection.execute("SELECT count(*) FROM logs").fetchone() == (0,)
    kept = [each for each in place.iterdir() if each.name.startswith(f"{FILE}.")]
    assert [
        bytes(data) == each.read_bytes() for each in kept if not each.name.endswith(("-wal", "-shm"))
    ] == [True]


def test_what_a_damaged_file_still_tells_of_its_logs_is_kept(place: Path) -> None:
    with Writer.open(place) as writer:
        writer.connection.execute(
            "INSERT INTO logs VALUES (1, 'x', '/w/capsule.log', 0, 0, 0, x'', x'', 'whole', NULL)"
        )
        writer.renew("something was wrong")
        assert writer.recovered == ["/w/capsule.log"]
        assert "something was wrong; it is kept as sessions.db." in writer.notes[0]


def test_a_newer_one_is_refused_and_left_alone(place: Path) -> None:
    with Writer.open(place) as writer:
        writer.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = (place / FILE).read_bytes()
    with pytest.raises(SessionsError, match="made by a newer capsule"), Writer.open(place):
        pass
    assert (place / FILE).read_bytes() == before


def test_an_older_one_is_brought_to_this_version(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Writer.open(place) as writer:
        writer.connection.execute("INSERT INTO logs VALUES (1, 'x', '/l', 0, 0, 0, x'', x'', 'whole', NULL)")
    from capsule.sessions import schema

    monkeypatch.setattr(
        schema, "MIGRATIONS", (*schema.MIGRATIONS, ("ALTER TABLE logs ADD COLUMN colour TEXT",))
    )
    monkeypatch.setattr(database, "VERSION", VERSION + 1)
    with Writer.open(place) as writer:
        assert writer.connection.execute("SELECT path, colour FROM logs").fetchall() == [("/l", None)]
        assert writer.connection.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)


@pytest.mark.parametrize("version", [0, 1, VERSION])
def test_a_database_without_our_tables_is_moved_aside_and_said(place: Path, version: int) -> None:
    """Another program's, or one of an odd development version: what we need is made again from the logs."""
    with closing(sqlite3.connect(place / FILE)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
        connection.execute("INSERT INTO notes VALUES ('of another program')")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
    (place / FILE).chmod(0o600)
    with Writer.open(place) as writer:
        (note,) = writer.notes
        assert "made again from the logs" in note
        assert "it has tables, and no version" in note or f"its version is {version}" in note
        assert writer.connection.execute("SELECT count(*) FROM commands").fetchone() == (0,)
    (kept,) = (
        each for each in place.iterdir() if each.name.startswith(f"{FILE}.20") and each.suffix[-1:] == "0"
    )
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("of another program",)]


def test_a_database_that_lacks_one_column_still_tells_of_its_logs(place: Path) -> None:
    with Writer.open(place) as writer:
        writer.connection.execute(
            "INSERT INTO logs VALUES (1, 'x', '/w/capsule.log', 0, 0, 0, x'', x'', 'whole', NULL)"
        )
        writer.connection.execute("ALTER TABLE http DROP COLUMN reported_by")
    with Writer.open(place) as writer:
        assert "no such column" in writer.notes[0]
        assert writer.recovered == ["/w/capsule.log"]


def test_unsafe_files_are_refused(place: Path, tmp_path: Path) -> None:
    (place / FILE).touch(mode=0o644)
    (place / FILE).chmod(0o644)
    with pytest.raises(SessionsError, match="ours alone"), Writer.open(place):
        pass
    (place / FILE).unlink()
    (place / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SessionsError, match="symbolic link"), Writer.open(place):
        pass
    assert not (tmp_path / "elsewhere").exists()
