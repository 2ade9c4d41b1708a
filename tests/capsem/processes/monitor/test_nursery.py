"""The nursery as a process: what it forks, what it keeps, and when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.wire.nursery import Begin, encode

pytestmark = pytest.mark.usefixtures("capsem_home")


@contextlib.contextmanager
def nursery() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = [sys.executable, "-m", "capsem.processes.monitor", "--nursery", str(theirs.fileno())]
    process = subprocess.Popen(
        line, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    theirs.close()
    with process, ours:
        try:
            yield process, ours
        finally:
            process.kill()


def asked(ours: socket.socket, said: Begin, log: Path) -> int:
    """Where the monitor says how it went."""
    told, ready = os.pipe()
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    socket.send_fds(ours, [encode(said)], [ready, errors])
    os.close(ready)
    os.close(errors)
    return told


def children(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def one_ahead(process: subprocess.Popen[bytes]) -> int:
    """The process that is forked while nothing is asked for."""
    until = time.monotonic() + 20
    while len(found := children(process)) != 1 or not waits(found[0]):
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return found[0]


def waits(pid: int) -> bool:
    """Whether it has done all that it does unasked: it sleeps, and its processes have ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
        return state == "S" and not Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return False


def until_gone(pid: int) -> None:
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until, f"{pid} is there"
        time.sleep(0.02)


def said_of_nothing(ours: socket.socket, directory: Path) -> str:
    """What a monitor says of a session without a record."""
    directory.mkdir()
    (directory / "session.json").write_text("{}")
    told = asked(ours, Begin(session=str(directory)), directory / "monitor.log")
    with os.fdopen(told, "rb") as file:
        return str(json.loads(file.read())["message"])


def test_each_monitor_is_a_process_of_its_own_and_the_nursery_keeps_nothing(tmp_path: Path) -> None:
    with nursery() as (process, ours):
        before: set[str] | None = None
        for number in range(3):
            log = tmp_path / f"{number}.log"
            (directory := tmp_path / str(number)).mkdir()
            (directory / "session.json").write_text("{}")
            told = asked(ours, Begin(session=str(directory)), log)
            with os.fdopen(told, "rb") as file:
                said = json.loads(file.read())
            assert "no record of a machine" in said["message"]
            assert "no record of a machine" in log.read_text()
            one_ahead(process)
            held = set(os.listdir(f"/proc/{process.pid}/fd"))
            assert before is None or held == before
            before = held
            assert len(os.listdir(f"/proc/{process.pid}/task")) == 1, "it forks, so it has one thread"
        until = time.monotonic() + 20
        while len(children(process)) > 1:
            assert time.monotonic() < until, "a monitor that has ended is no zombie"
            time.sleep(0.02)


def test_the_one_ahead_is_who_is_asked_for_next(tmp_path: Path) -> None:
    with nursery() as (process, ours):
        ahead = one_ahead(process)
        assert os.listdir(f"/proc/{ahead}/task") == [str(ahead)], "it has one thread"
        assert "no record of a machine" in said_of_nothing(ours, tmp_path / "first")
        until_gone(ahead)
        after = one_ahead(process)
        # Ended from outside it is not missed.
        os.kill(after, signal.SIGKILL)
        until_gone(after)
        assert "no record of a machine" in said_of_nothing(ours, tmp_path / "second")
        assert one_ahead(process) != after


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_one_ahead_ends_with_the_nursery(how: signal.Signals) -> None:
    with nursery() as (process, _):
        ahead = one_ahead(process)
        process.send_signal(how)
        process.wait(30)
        until_gone(ahead)


def test_it_ends_when_the_service_does() -> None:
    with nursery() as (process, ours):
        ours.close()
        assert process.wait(30) == 0


def test_a_sentence_that_it_does_not_know_ends_it(tmp_path: Path) -> None:
    with nursery() as (process, ours):
        ours.send(b'{"session":"/x"}')
        assert process.wait(30) != 0
        assert process.stderr is not None
        assert b"descriptors came" in process.stderr.read()
    assert not list(tmp_path.iterdir())


def test_it_loads_no_server_and_no_rules() -> None:
    code = (
        "import sys; import capsem.processes.monitor.nursery; from capsem.processes.monitor import PROCESS; "
        "print([name for name in (*PROCESS.never_loads, 'cel_expr_python', 'mitmproxy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
