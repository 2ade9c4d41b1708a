"""A machine's record, read: from logs that `capsule record` wrote and signed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capsem.errors import MachineError, NotFoundError
from capsem.host import places
from capsem.host.recorded import Recorded
from capsule.sessions.query import QueryError, SlowError
from tests.sessions.recorded import machine

ID, CHILD = "m-0badcafe", "m-00c0ffee"
pytestmark = pytest.mark.usefixtures("capsem_home")


def record(binary: Path, machine_: str, *entries: dict[str, Any]) -> Path:
    """Write a machine's log; its path."""
    places.prepare()
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    log = places.log(machine_)
    subprocess.run(
        [str(binary), "record", "--log", str(log)], input=text.encode(), check=True, stdout=subprocess.DEVNULL
    )
    return log


def test_it_is_told_asked_counted_and_verified(capsule_binary: Path) -> None:
    log = record(capsule_binary, ID, *machine())
    recorded = Recorded(ID)
    assert [beat.verb for beat in recorded.told().beats][:3] == ["began", "ran", "failed"]
    counts = recorded.counted()
    assert (counts["commands"], counts["refused"], counts["requests"]) == (1, 2, 0)
    assert recorded.ask("SELECT argv FROM commands WHERE action = 'block'").rows == [('["rm","-r"]',)]
    assert recorded.last_start()["accelerator"] == "tcg"
    done = recorded.verify()
    assert (done.code, done.found["outcome"]) == (0, "verified"), done
    assert done.said.startswith(f"verified  {log}")
    place = places.index(ID)
    assert (place.stat().st_mode & 0o777, place.stat().st_uid) == (0o700, os.getuid())


def test_what_comes_later_is_there_the_next_time(capsule_binary: Path) -> None:
    record(capsule_binary, ID, *machine())
    assert Recorded(ID).counted()["entries"] == 9
    record(capsule_binary, ID, *machine())
    assert Recorded(ID).counted()["entries"] == 17


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM events", "UPDATE events SET event = '{}'", "ATTACH '/tmp/x' AS x", "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')", "CREATE TABLE t (a)", "VACUUM INTO '/tmp/x'",
    ],
)  # fmt: skip
def test_it_only_reads(capsule_binary: Path, sql: str) -> None:
    record(capsule_binary, ID, *machine())
    with pytest.raises(QueryError):
        Recorded(ID).ask(sql)
    assert Recorded(ID).counted()["entries"] == 9
    with pytest.raises(SlowError):
        Recorded(ID).ask(
            "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT count(*) FROM a",
            seconds=0.1,
        )


@contextlib.contextmanager
def recording(binary: Path, log: Path, *entries: dict[str, Any]) -> Iterator[None]:
    """Entries are on the log, and who put them there has not signed them yet; it is killed in the end."""
    with subprocess.Popen(
        [str(binary), "record", "--log", str(log)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as recorder:
        assert recorder.stdin is not None
        before = log.stat().st_size
        recorder.stdin.write("".join(json.dumps(entry) + "\n" for entry in entries).encode())
        recorder.stdin.flush()
        until = time.monotonic() + 60
        while log.stat().st_size == before:
            assert time.monotonic() < until
        yield
        recorder.kill()


def test_what_was_recorded_just_now_is_verified_as_soon_as_it_is_signed(capsule_binary: Path) -> None:
    log = record(capsule_binary, ID, *machine())
    with recording(capsule_binary, log, *machine()):
        early = subprocess.run([str(capsule_binary), "verify", str(log)], capture_output=True, check=False)
        assert early.returncode == 20, "the control"
        assert Recorded(ID).verify().code == 0


def test_what_nobody_signs_any_more_is_said(capsule_binary: Path) -> None:
    log = record(capsule_binary, ID, *machine())
    with recording(capsule_binary, log, machine()[0]):
        pass
    assert Recorded(ID).verify().code == 20


def test_a_log_that_was_changed_is_said(capsule_binary: Path) -> None:
    """The attack: whoever reaches the file takes the refusal out of it."""
    log = record(capsule_binary, ID, *machine())
    assert Recorded(ID).verify().code == 0, "the control"
    log.write_bytes(log.read_bytes().replace(b'"rm","-r"', b'"ls","-l"'))
    done = Recorded(ID).verify()
    assert done.code not in (0, 125)
    assert "verified" not in done.said.splitlines()[0]


def test_a_damaged_index_is_made_again(capsule_binary: Path) -> None:
    record(capsule_binary, ID, *machine())
    assert Recorded(ID).counted()["entries"] == 9
    (places.index(ID) / "sessions.db").write_bytes(b"no database" * 500)
    recorded = Recorded(ID)
    assert recorded.counted()["entries"] == 9
    assert "damaged" in recorded.notes[0]


def test_a_branch_is_verified_with_its_parent(capsule_binary: Path) -> None:
    parent = record(capsule_binary, ID, *machine())
    note = [
        json.loads(line)["note"] for line in parent.read_bytes().splitlines() if line.startswith(b'{"note"')
    ][-1]
    record(
        capsule_binary,
        CHILD,
        {"type": "machine.branched", "run": f"r-{CHILD}", "machine": ID, "checkpoint": note},
    )
    done = Recorded(CHILD).verify()
    assert done.code == 0, done.said
    assert done.found["parent"]["outcome"] == "verified"
    record(capsule_binary, ID, *machine())
    assert Recorded(CHILD).verify().code == 0, "the parent went on"
    lines = parent.read_bytes().splitlines(keepends=True)
    parent.write_bytes(b"".join(lines[:3]))
    assert Recorded(CHILD).verify().code not in (0, 125), "the parent's log was cut before the moment"
    parent.unlink()
    gone = Recorded(CHILD).verify()
    assert (gone.code, gone.found["parent"]) == (0, None)
    assert "is gone" in gone.said


@pytest.mark.parametrize("parent", ["../../etc/passwd", "m-1", 7, None])
def test_a_parent_that_cannot_be_is_refused(capsule_binary: Path, parent: object) -> None:
    entry = {"type": "machine.branched", "run": f"r-{CHILD}", "machine": parent, "checkpoint": "x"}
    record(capsule_binary, CHILD, entry)
    with pytest.raises(MachineError, match="names no parent"):
        Recorded(CHILD).verify()


def test_what_has_no_log_is_not_there(capsule_binary: Path) -> None:
    with pytest.raises(NotFoundError, match="no log of m-00000bad"):
        Recorded("m-00000bad")
    record(capsule_binary, CHILD, *machine("r-m-00000002"))
    with pytest.raises(MachineError, match="says nothing of"):
        Recorded(CHILD).counted()
