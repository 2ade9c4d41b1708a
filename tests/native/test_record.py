"""`capsule record`, and with it the writer, as processes: rivals, kill -9, a full disk, lines that are no entries."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capsule.audit import store
from tests.native.log import Log


@pytest.fixture
def log(capsule_binary: Path, tmp_path: Path) -> Log:
    return Log(capsule_binary, tmp_path / "capsule.log")


def test_entries_are_recorded_and_counted(log: Log) -> None:
    done = log.record({"type": "egress.dns", "run": None, "name": f"host{n}"} for n in range(1000))
    report = json.loads(done.stdout)
    assert (done.returncode, report["recorded"], report["first"], report["last"]) == (0, 1000, 1, 1000)
    assert log.verify()[:2] == ("verified", 0)
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_what_is_no_entry_is_refused_and_leaves_a_gap(log: Log) -> None:
    lines = [
        b'{"type":"exec"}', b"nonsense", b'{"type":"run.started"}', b'{"type":"exec","a":1,"a":2}',
        b'{"type":"exec","a":1.5}',
        b'{"type":"exec","seq":3}', b'{"type":"exec","x":"' + b"y" * 70_000 + b'"}', b'{"type":"exec","a":"\xff"}',
        b'{"type":"exec","bad name":1}', b'{"type":"exec"}', b'{"type":"exec"',
    ]  # fmt: skip
    done = log.call("record", "--log", log.path, "--json", stdin=b"\n".join(lines))
    report = json.loads(done.stdout)
    assert (done.returncode, report["recorded"], report["refused"]) == (1, 2, 9)
    outcome, _, verified = log.verify()
    assert outcome == "verified"
    assert [warning["kind"] for warning in verified["warnings"]] == ["gap"]
    assert sum(entry.kind == "exec" for entry in store.entries(log.path)) == 2
    assert [entry.fields["lost"] for entry in store.entries(log.path) if entry.kind == "gap"] == [9]


def test_entries_come_through_while_the_pipe_stays_open(log: Log) -> None:
    with subprocess.Popen([log.binary, "record", "--log", log.path], stdin=subprocess.PIPE) as recording:
        assert recording.stdin is not None
        recording.stdin.write(b'{"type":"exec"}\n')
        recording.stdin.flush()
        deadline = time.monotonic() + 20
        # Written within 100 ms and signed within a second: the deadline is for a loaded machine.
        while (
            not (log.path.exists() and log.path.read_bytes().count(b'{"note"') == 2)
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        assert log.verify()[:2] == ("verified", 0)
        assert sum(entry.kind == "exec" for entry in store.entries(log.path)) == 1
        recording.stdin.close()
        assert recording.wait(20) == 0


def test_a_recorder_that_was_begun_ahead_makes_no_log_before_something_comes(log: Log) -> None:
    for stdin in (subprocess.DEVNULL, subprocess.PIPE):
        with subprocess.Popen(
            [log.binary, "record", "--ahead", "--json", "--log", log.path],
            stdin=stdin,
            stdout=subprocess.PIPE,
        ) as recording:
            # Long enough for one that opens its log at once.
            time.sleep(0.3)
            assert not log.path.exists()
            out, _ = recording.communicate(timeout=20)
        assert recording.returncode == 0
        assert json.loads(out) == {"log": None, "recorded": 0, "refused": 0, "first": None, "last": None}
        assert not log.path.exists(), "nothing came, so there is nothing to keep"


def test_a_recorder_that_was_begun_ahead_records_from_the_first_byte_on(log: Log) -> None:
    with subprocess.Popen(
        [log.binary, "record", "--ahead", "--log", log.path], stdin=subprocess.PIPE
    ) as recording:
        assert recording.stdin is not None
        # The first that it reads is half a line, and then some lines at once; one of them is none.
        for piece in (
            b'{"type":"ex',
            b'ec","n":1}\n{"type":"exec","n":2}\nnonsense\n',
            b'{"type":"exec","n":3}\n',
        ):
            recording.stdin.write(piece)
            recording.stdin.flush()
            time.sleep(0.05)
        recording.stdin.close()
        assert recording.wait(20) == 1, "a line was refused"
    assert log.verify()[0] == "verified"
    assert [entry.fields["n"] for entry in store.entries(log.path) if entry.kind == "exec"] == [1, 2, 3]
    assert [entry.fields["lost"] for entry in store.entries(log.path) if entry.kind == "gap"] == [1]


def test_a_recorder_that_was_begun_ahead_says_that_its_log_cannot_be_made(log: Log, tmp_path: Path) -> None:
    done = log.call("record", "--ahead", "--log", tmp_path / "none/capsule.log", stdin=b'{"type":"exec"}\n')
    assert done.returncode == 125
    assert "none/capsule.log" in done.stderr


def test_an_empty_line_has_everything_before_it_signed_now(log: Log) -> None:
    with subprocess.Popen([log.binary, "record", "--log", log.path], stdin=subprocess.PIPE) as recording:
        assert recording.stdin is not None
        # Within one read, and with nothing new: it is no entry, and no line that is refused.
        recording.stdin.write(b'{"type":"exec"}\n\n\n{"type":"exec"}\n\n')
        recording.stdin.flush()
        deadline = time.monotonic() + 20
        while not (log.path.exists() and log.path.read_bytes().count(b'"exec"') == 2):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        recording.stdin.close()
        assert recording.wait(20) == 0
    lines = [json.loads(line) for line in log.path.read_bytes().splitlines()]
    kinds = ["note" if "note" in line else line.get("type") for line in lines]
    places = [number for number, kind in enumerate(kinds) if kind == "exec"]
    assert len(places) == 2
    assert "note" in kinds[places[0] : places[1]], "the first was signed before the second was there"
    assert log.verify()[:2] == ("verified", 0)


def test_fifty_processes_make_one_log(log: Log) -> None:
    with ThreadPoolExecutor(50) as pool:
        done = list(
            pool.map(
                lambda n: log.record({"type": "exec", "run": f"r-{n}", "n": k} for k in range(20)), range(50)
            )
        )
    assert [call.returncode for call in done] == [0] * 50
    outcome, _, report = log.verify("--strict")
    assert (outcome, report["log"]["entries"]) == ("verified", 1001)
    for run in range(50):
        mine = [entry.fields["n"] for entry in store.entries(log.path) if entry.run == f"r-{run}"]
        assert mine == list(range(20))


@pytest.mark.slow
def test_killed_at_any_moment_the_next_one_goes_on(log: Log) -> None:
    chance, entry = random.Random(20261122), json.dumps({"type": "exec", "fill": "x" * 900}).encode() + b"\n"
    log.fill()
    for _ in range(40):
        with subprocess.Popen([log.binary, "record", "--log", log.path], stdin=subprocess.PIPE) as recording:
            assert recording.stdin is not None
            stop = time.monotonic() + chance.uniform(0, 0.06)
            while time.monotonic() < stop:
                recording.stdin.write(entry * 70)
            recording.send_signal(signal.SIGKILL)
            with contextlib.suppress(BrokenPipeError):
                recording.stdin.close()
        outcome, _, report = log.verify()
        assert outcome in {"verified", "unsealed", "torn"}, report["fault"]
    log.fill(1)
    outcome, _, report = log.verify()
    assert outcome == "verified"
    assert {warning["kind"] for warning in report["warnings"]} <= {"recovery"}


@pytest.mark.serial
def test_killed_it_loses_the_last_tenth_of_a_second_at_most(log: Log) -> None:
    """What was handed over longer ago than 100 ms is on the log, whatever kills the writer; verify says the rest."""
    lost = []
    for kill in range(5):
        with subprocess.Popen([log.binary, "record", "--log", log.path], stdin=subprocess.PIPE) as recording:
            assert recording.stdin is not None
            sent: dict[int, float] = {}
            stop = time.monotonic() + 0.5
            while time.monotonic() < stop:
                number = len(sent)
                recording.stdin.write(
                    json.dumps({"type": "exec", "run": f"r-{kill}", "n": number}).encode() + b"\n"
                )
                recording.stdin.flush()
                sent[number] = time.monotonic()
                time.sleep(0.002)
            recording.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            recording.wait()
        there = [entry.fields["n"] for entry in store.entries(log.path) if entry.run == f"r-{kill}"]
        assert there == list(range(len(there))), "in order, and nothing left out"
        lost.append(max((killed - at for number, at in sent.items() if number >= len(there)), default=0.0))
        outcome, _, report = log.verify()
        assert outcome == "unsealed", report["fault"]
    # The machine may be busy with other things: of five kills the middle one counts, and none may be far off.
    assert sorted(lost)[2] <= 0.11, lost
    assert max(lost) <= 0.5, lost
    log.fill(1)
    assert log.verify()[0] == "verified"


@pytest.mark.parametrize("cut", range(1, 400, 7))
def test_torn_at_any_byte_the_next_one_records_it(log: Log, cut: int) -> None:
    """As a crash leaves it: the memory is from before the block, and the block is there in part."""
    log.fill()
    head = next((Path(os.environ["XDG_STATE_HOME"]) / "capsule/heads").iterdir())
    memory, before = head.read_bytes(), log.path.read_bytes()
    log.fill(2)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[: len(before) + cut])
    head.write_bytes(memory)
    log.fill(1)
    outcome, _, report = log.verify()
    assert outcome == "verified"
    kinds = [warning["kind"] for warning in report["warnings"]]
    torn = Path(f"{log.path}.torn-1")
    assert kinds == (["recovery"] if torn.exists() else [])
    if torn.exists():
        assert whole.startswith(log.path.read_bytes()[: whole.index(torn.read_bytes())])


def on_a_small_disk(
    script: str, log: Log, tmp_path: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a script that may mount at its first argument, with the program as its second."""
    disk = tmp_path / "disk"
    disk.mkdir()
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", disk, log.binary],
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


FULL = """
mount -t tmpfs -o size=64k tmpfs "$1" && cd "$1" && shift
"$1" record --log small.log < /dev/null || exit 7
dd if=/dev/zero of=filler bs=1k count=1000 2>/dev/null
many() { i=0; while [ $i -lt 60 ]; do printf '{"type":"exec","fill":"%900s"}\\n' x; i=$((i+1)); done; }
many | "$1" record --log small.log; echo "full $?"
"$1" verify small.log --json; echo "verify $?"
rm filler
echo '{"type":"exec"}' | "$1" record --log small.log; echo "room $?"
"$1" verify small.log --strict --json >/dev/null; echo "verify $?"
"$1" record --log /proc/self/nowhere < /dev/null; echo "nowhere $?"
mount -o remount,bind,ro "$PWD" && "$1" record --log other.log < /dev/null; echo "read-only $?"
"""


@pytest.mark.needs("unshare", "userns")
def test_a_full_disk_stops_and_harms_nothing(log: Log, tmp_path: Path) -> None:
    done = on_a_small_disk(FULL, log, tmp_path, 60)
    said = [line for line in done.stdout.splitlines() if not line.startswith("{")]
    assert said == ["full 125", "verify 0", "room 0", "verify 0", "nowhere 125", "read-only 125"], done.stderr
    assert "make room there" in done.stderr


WAITS = """
mount -t tmpfs -o size=64k tmpfs "$1" && cd "$1" && shift
"$1" record --log small.log < /dev/null || exit 7
dd if=/dev/zero of=filler bs=1k count=1000 2>/dev/null
many() { i=0; while [ $i -lt 30 ]; do printf '{"type":"exec","number":%d,"fill":"%900s"}\\n' $i x; i=$((i+1)); done; }
{ many; sleep 2; rm filler; sleep 2; } | "$1" record --wait --log small.log; echo "waited $?"
grep -c '"type":"exec"' small.log
grep -c '"type":"gap"' small.log
"$1" verify small.log --strict --json >/dev/null; echo "verify $?"
dd if=/dev/zero of=filler bs=1k count=1000 2>/dev/null
many | timeout 30 "$1" record --wait --log small.log; echo "nobody writes $?"
many > /dev/shm/lines.$$; timeout 30 "$1" record --wait --log small.log < /dev/shm/lines.$$; echo "a file $?"
rm /dev/shm/lines.$$
"""


@pytest.mark.needs("unshare", "userns")
def test_a_full_disk_is_waited_for_as_long_as_somebody_writes(log: Log, tmp_path: Path) -> None:
    done = on_a_small_disk(WAITS, log, tmp_path, 120)
    said = done.stdout.splitlines()
    assert said == ["waited 0", "30", "0", "verify 0", "nobody writes 125", "a file 125"], done.stderr


def test_unsafe_files_are_refused(log: Log, tmp_path: Path) -> None:
    log.fill()
    key = Path(os.environ["XDG_DATA_HOME"]) / "capsule/log.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o644)
    assert "chmod 600" in log.record().stderr
    key.chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    log.path.rename(elsewhere)
    log.path.symlink_to(elsewhere)
    done = log.record()
    assert done.returncode == 125
    assert "symbolic link" in done.stderr
    assert log.call("record", "--nonsense").returncode == 64


def test_errors_are_json_where_json_was_asked_for(log: Log, tmp_path: Path) -> None:
    done = log.call("record", "--wrong", "--json", stdin=b"")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"], answer["exit"]) == (64, False, 64)
    done = log.call("record", "--json", "--log", tmp_path / "no/such/log", stdin=b"")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (125, False)
