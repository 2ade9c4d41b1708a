from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from capsule.audit.store import LogError
from capsule.sessions.compare import compare
from capsule.sessions.database import SessionsError, Writer, directory, reader
from capsule.sessions.ingest import Taken, known, take_in
from tests.audit.forge import Forge, Signer, sound
from tests.native.log import Log
from tests.sessions.recorded import exec_, session

Take = Callable[..., Taken]


def ask(sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(reader(directory())) as connection:
        return connection.execute(sql, values).fetchall()


def count(table: str = "events") -> int:
    return int(ask(f"SELECT count(*) FROM {table}")[0][0])


def state(path: Path) -> str:
    return str(ask("SELECT state FROM logs WHERE path = ? ORDER BY number DESC", str(path))[0][0])


def again(path: Path) -> Taken:
    with Writer.open(directory()) as writer:
        return take_in(writer, [str(path)])


def same_as_the_log() -> bool:
    place = directory() / "fresh"
    place.mkdir()
    with Writer.open(directory()) as writer, Writer.open(place) as fresh:
        return not list(compare(writer, fresh)[2])


def test_what_is_new_comes_in_once(log: Log, taken: Take) -> None:
    assert taken(session()).entries == 27  # with log.created
    assert taken().entries == 0
    assert taken(session("r-2")).entries == 26
    assert (count(), count("runs"), count("http")) == (53, 2, 4)
    assert ask("SELECT first, last FROM runs WHERE run = 'r-2'") == [(27, 52)]
    with Writer.open(directory()) as writer:
        assert known(writer.connection) == [str(log.path)]
    assert same_as_the_log()


def test_a_checkpoint_that_comes_later_does_not_matter(tmp_path: Path) -> None:
    path, forge = tmp_path / "l", Forge().genesis()
    forge.block(forge.next(2), seal=False)
    path.write_bytes(forge.data)
    assert again(path).entries == 3
    note = forge.signer.note(3, bytes(32), bytes(32)).replace("\n", "\\n")
    forge.data += b'{"note":"' + note.encode() + b'"}\n'
    from tests.audit.forge import chained

    forge.prev = chained(forge.data[forge.starts[-1] :])
    forge.block(forge.next(1))
    path.write_bytes(forge.data)
    assert again(path) == Taken(1, [])


def test_a_torn_tail_waits_for_the_next_time(tmp_path: Path) -> None:
    path, data = tmp_path / "l", sound().data
    for cut in range(len(data) - 900, len(data), 50):
        path.write_bytes(data[:cut])
        assert again(path).notes == []
    path.write_bytes(data)
    again(path)
    assert count() == 11
    assert state(path) == "whole"
    assert same_as_the_log()


def test_another_log_at_the_path_is_said(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_bytes(sound().data)
    again(path)
    other = Forge(Signer(log="ff" * 16)).genesis()
    path.write_bytes(other.data)
    taken = again(path)
    assert taken.entries == 1
    assert "is another log now (ffffffff" in taken.notes[0]
    assert (count(), again(path).notes) == (12, [])


def test_a_log_rolled_back_is_said_and_not_read_on(tmp_path: Path) -> None:
    path, forge = tmp_path / "l", sound()
    path.write_bytes(forge.data)
    again(path)
    path.write_bytes(forge.data[: forge.starts[4]])
    taken = again(path)
    assert taken.entries == 0
    assert "the log was cut or rolled back" in taken.notes[0]
    assert "capsule verify" in taken.notes[0]
    assert (state(path), count()) == ("rolled_back", 11)
    path.write_bytes(forge.data)  # the whole one is there again
    assert again(path).notes == []
    assert state(path) == "whole"


def test_a_log_rewritten_where_the_index_ended_is_said(tmp_path: Path) -> None:
    path = tmp_path / "l"
    forge = Forge().genesis()
    forge.block(forge.next(3, path="/usr/bin/git"))
    path.write_bytes(forge.data)
    again(path)
    other = Forge().genesis()
    other.block(other.next(3, path="/usr/bin/gut"))
    other.block(other.next(3))
    path.write_bytes(other.data)
    assert "rewritten or rolled back" in again(path).notes[0]
    assert state(path) == "rolled_back"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data.replace(b'"block":5', b'"block":6'), "does not follow"),
        (lambda data: data + b"rubbish\n" * 100, "is no block"),
        (lambda data: data.replace(b"/etc/shadow", b"/etc/shadox"), "does not follow"),
    ],
    ids=["number", "rubbish", "changed"],
)
def test_a_broken_log_is_said_up_to_where_it_is_whole(
    tmp_path: Path, change: Callable[[bytes], bytes], why: str
) -> None:
    path, data = tmp_path / "l", sound().data
    path.write_bytes(change(data))
    taken = again(path)
    if change(data) == data:
        pytest.fail("the change changed nothing")
    assert why in taken.notes[0]
    assert state(path) == "broken"
    assert count() in {8, 10, 11}


def test_a_block_with_a_line_outside_the_dialect_does_not_come_in(tmp_path: Path) -> None:
    path, forge = tmp_path / "l", Forge().genesis()
    lines = forge.next(3)
    lines[2] = lines[2].replace(b'"exec"', b'"exec","a":1,"a":2')
    forge.block(lines)
    path.write_bytes(forge.data)
    taken = again(path)
    assert "a name appears twice" in taken.notes[0]
    assert count() == 1


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="there is no log"):
        again(tmp_path / "none")
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(LogError, match="not a capsule log"):
        again(tmp_path / "text")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogError, match="not a regular file"):
        again(tmp_path / "pipe")


def test_a_log_that_is_gone_is_marked(log: Log, taken: Take) -> None:
    taken(session())
    log.path.rename(log.path.with_name("elsewhere"))
    assert again(log.path) == Taken()
    assert state(log.path) == "missing"
    assert again(log.path.with_name("elsewhere")).entries == 0
    assert state(log.path.with_name("elsewhere")) == "whole"
    assert count() == 27


INGEST = """
import sys
from capsule.sessions import ingest
from capsule.sessions.database import Writer, directory
ingest.BATCH = 200
with Writer.open(directory()) as writer:
    print("go", flush=True)
    print(ingest.take_in(writer, sys.argv[1:]).entries)
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_next_one_goes_on(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    assert log.record(exec_(f"r-{n // 500}") for n in range(12_000)).returncode == 0
    kills = 0
    for delay in (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2):
        with subprocess.Popen([sys.executable, "-c", INGEST, log.path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"go\n"
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills >= 3, "none of them was at work any more"
    again(log.path)
    assert count() == 12_001
    assert same_as_the_log()


def test_a_full_disk_leaves_what_was_there(log: Log, taken: Take) -> None:
    taken(session())
    log.record(session("r-2") * 40)
    with Writer.open(directory()) as writer:
        pages = writer.connection.execute("PRAGMA page_count").fetchone()[0]
        writer.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(SessionsError, match="disk is full"):
            take_in(writer, [str(log.path)])
    assert count() == 27
    assert again(log.path).entries == 26 * 40
    assert same_as_the_log()
