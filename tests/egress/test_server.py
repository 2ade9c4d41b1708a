"""The daemon from its socket: who is let in, what ends a session, and that nothing outlives it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capsule.egress import seam, server
from tests.egress.supervisor import Daemon, Run, Stage, host, plan, wait_until
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

needs_stage = pytest.mark.needs("userns", "unshare", "curl")


def exchange(daemon: Daemon, data: bytes) -> bytes:
    """What comes back until the end."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.path))
        sock.settimeout(10)
        sock.sendall(data)
        got = b""
        while part := sock.recv(65536):
            got += part
        return got


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of a server that waits for half a second where others wait for ten."""
    monkeypatch.setattr(server, "FIRST_BYTE", 0.5)
    monkeypatch.setattr(seam, "TIMEOUT", 0.5)
    path = tmp_path / "impatient"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(64)
    serving = server.Server(listening, idle=300.0)
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve()))
    thread.start()
    yield path
    serving.idle = 0.0
    thread.join(30)
    assert not thread.is_alive(), "it never ended"


def answered(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(b"GET /asks HTTP/1.1\r\n\r\n")
        return sock.recv(12)


def test_who_says_nothing_takes_nobodys_place(impatient: Path) -> None:
    assert answered(impatient) == b"HTTP/1.1 200"
    for _ in range(3):
        silent = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for sock in silent:
            sock.settimeout(10)
            sock.connect(str(impatient))
        assert [sock.recv(1) for sock in silent] == [b""] * 4  # each was ended
        # Their numbers are those of the next ones, which have to be heard.
        assert [answered(impatient) for _ in range(6)] == [b"HTTP/1.1 200"] * 6
        for sock in silent:
            sock.close()


def test_who_does_not_read_takes_nobodys_place(impatient: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as large:
        asks = [{"at": 0, "pad": "x" * (4 << 20)}]
        large.setattr(server.Server, "asks", lambda _: asks)
        stuck = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for sock in stuck:
            sock.settimeout(10)
            sock.connect(str(impatient))
            sock.sendall(b"GET /asks HTTP/1.1\r\n\r\n")
        for sock in stuck:  # each was ended, with what it did not read
            ended = select.poll()
            ended.register(sock, 0)
            assert ended.poll(60_000), "it waits for who does not read"
    assert [answered(impatient) for _ in range(6)] == [b"HTTP/1.1 200"] * 6
    for sock in stuck:
        while sock.recv(1 << 20):
            pass
        sock.close()


def test_who_came_as_it_was_to_leave_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "leaving"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as late:
        listening.bind(str(path))
        listening.listen(4)
        late.connect(str(path))
        late.sendall(b"GET /asks HTTP/1.1\r\n\r\n")
        asyncio.run(server.Server(listening, idle=0.0).serve())
        assert late.recv(12) == b"HTTP/1.1 200"
        with socket.socket(socket.AF_UNIX) as later, pytest.raises(ConnectionRefusedError):
            later.connect(str(path))


def framed(message: Any) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "data",
    [b"\0\0\0\x02{}", b"\xff\xff\xff\xff", framed({"type": "flow"}), framed({"type": "nonsense"}),
     framed({"type": "sources", "sources": []}), framed({"type": "authority"})],
)  # fmt: skip
def test_what_is_no_session_ends_at_once(daemon: Daemon, data: bytes) -> None:
    assert exchange(daemon, data) == b""
    assert daemon.process.poll() is None


@needs_stage
def test_wrong_descriptors_end_the_session(daemon: Daemon, stage: Stage) -> None:
    for wrong in ([], stage.descriptors[:2], list(reversed(stage.descriptors)), [0, 0, 0, 0, 0]):
        run = Run(daemon, Stage.__new__(Stage), plan(host("a.example", 443)), name=f"wrong-{len(wrong)}")
        run.stage.descriptors, run.stage.ports = wrong, stage.ports
        # It may hang up before it has read all that is said to it.
        with pytest.raises((AssertionError, BrokenPipeError, ConnectionResetError)):
            run.open()
        run.close()
    assert daemon.process.poll() is None


@needs_stage
def test_it_leaves_when_idle_and_not_before(tmp_path: Path, stage: Stage) -> None:
    daemon = Daemon(tmp_path, idle=1)
    run = Run(daemon, stage, plan(host("a.example", 443))).open()
    time.sleep(2)
    assert daemon.process.poll() is None
    run.close()
    assert daemon.process.wait(10) == 0
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(str(daemon.path))


@needs_stage
def test_nothing_outlives_a_session(session: Any, daemon: Daemon, plain: Upstream) -> None:
    assert exchange(daemon, b"GET /asks HTTP/1.1\r\n\r\n"), "it has opened what it needs when it answers"
    before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    inside = session(host("a.example", 80), **to(plain))
    number = inside.stage.start("curl", "-sS", "-m", "20", "http://a.example/slow/15")
    wait_until(lambda: any(target == "/slow/15" for _, target, _ in plain.seen))
    inside.run.close()
    done = inside.stage.finish(number)
    assert done.code in (52, 56), done
    wait_until(lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= before)


@needs_stage
def test_when_it_is_killed_programs_fail(tmp_path: Path, plain: Upstream) -> None:
    daemon, stage = Daemon(tmp_path), Stage(80)
    run = Run(daemon, stage, plan(host("a.example", 80), **to(plain))).open()
    assert stage.run("curl", "-sS", "http://a.example/x").out == "hello /x"
    for number in stage.descriptors:
        os.close(number)  # the supervisor keeps none either
    stage.descriptors = []
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait(10)
    wait_until(lambda: run.ended)
    run.close()
    done = stage.run("curl", "-sS", "-m", "10", "--resolve", "a.example:80:198.18.0.2", "http://a.example/x")
    assert done.code == 7, done
    stage.close()


@needs_stage
def test_two_sessions_know_nothing_of_each_other(daemon: Daemon, plain: Upstream) -> None:
    stages = [Stage(80), Stage(80)]
    names = ("a.example", "b.example")
    runs = [
        Run(daemon, stage, plan(host(name, 80), **to(plain, name)), name=f"apart-{name}").open()
        for stage, name in zip(stages, names, strict=True)
    ]
    for stage, run, own, other in zip(stages, runs, names, reversed(names), strict=True):
        assert stage.run("curl", "-sS", f"http://{own}/x").out == "hello /x"
        assert stage.run("curl", "-sS", f"http://{other}/x").code == 6
        assert all(entry["http"]["host"] == own for entry in run.records("egress.http"))
    for stage, run in zip(stages, runs, strict=True):
        run.close()
        stage.close()


@needs_stage
def test_a_thousand_connections_and_one(session: Any, plain: Upstream) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    inside = session(host("a.example", 80), **to(plain))
    done = inside.client("many", "a.example", "1020", timeout=60)
    assert int(done.out) == 1000, done
    assert "1000 connections" in inside.run.record("egress.tcp")["decision"]["reason"]


def test_an_interpreter_without_the_extra_says_so() -> None:
    code = (
        "import sys; sys.modules['mitmproxy'] = None; import runpy; "
        "runpy.run_module('capsule.egress', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3
    assert done.stderr == "capsule-egress lacks mitmproxy; install capsule[egress]\n"


def test_descriptor_0_must_be_a_listening_socket() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "capsule.egress"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "descriptor 0 must be a listening Unix socket" in done.stderr


@pytest.mark.needs("root")
def test_another_user_is_not_let_in(daemon: Daemon) -> None:
    daemon.directory.chmod(0o755)
    daemon.path.chmod(0o777)
    for parent in daemon.directory.parents:
        if parent == Path("/"):
            break
        if not parent.stat().st_mode & 0o001:
            pytest.skip("needs root: the directory is not another user's to enter")
    code = (
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(b'\\0'); print(s.recv(1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(daemon.path)],
        user=65534,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (
        done.stdout.strip() == "b''" or "ConnectionResetError" in done.stderr or "BrokenPipe" in done.stderr
    ), done
