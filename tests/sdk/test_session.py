"""A session with its process: threads, forks, exits, and nothing left over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.server
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

import capsule
from capsule.sdk import wire
from capsule.sdk.pool import POOL
from capsule.sdk.session import Session


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def processes_of(root: int) -> set[int]:
    """Every descendant of a process, as the host sees them."""
    found: set[int] = set()
    todo = [root]
    while todo:
        pid = todo.pop()
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            continue
        found |= {int(child) for child in children}
        todo += [int(child) for child in children]
    return found


def test_fifty_threads_at_once(tools: ModuleType) -> None:
    tools.add(0)
    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(tools.add, range(400))) == [n + 2 for n in range(400)]


def test_many_coroutines_at_once(tools: ModuleType) -> None:
    async def all_of_them() -> list[str]:
        return list(await asyncio.gather(*(tools.later(str(n)) for n in range(100))))

    assert asyncio.run(all_of_them()) == [str(n) * 2 for n in range(100)]


def test_calls_run_beside_each_other(tools: ModuleType) -> None:
    tools.sleep(0.0)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tools.sleep, [0.5] * 8))
    assert time.monotonic() - started < 2.5


def test_a_threaded_web_server_calls_tools(tools: ModuleType) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = str(tools.add(int(self.path[1:]))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def fetch(n: int) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/{n}") as page:
                text: str = page.read().decode()
                return text

        with ThreadPoolExecutor(20) as pool:
            pages = list(pool.map(fetch, range(60)))
        server.shutdown()
        thread.join()
    assert pages == [str(n + 2) for n in range(60)]


@pytest.mark.slow
def test_a_thousand_calls_leave_nothing_behind(tools: ModuleType, workspace: Path) -> None:
    tools.add(0)
    session = POOL.session(POOL.key(None, "add"))
    gc.collect()
    time.sleep(0.5)
    files, open_before = sorted(os.listdir(workspace)), descriptors()
    resting = len(processes_of(session.process.pid))
    for n in range(1000):
        assert tools.add(n) == n + 2
    deadline = time.monotonic() + 5
    while len(processes_of(session.process.pid)) > resting + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(processes_of(session.process.pid)) <= resting + 2
    assert descriptors() == open_before
    assert sorted(os.listdir(workspace)) == files


def test_closing_ends_every_process(tools: ModuleType) -> None:
    tools.add(0)
    session = POOL.session(POOL.key(None, "add"))
    everything = processes_of(session.process.pid)
    assert everything
    POOL.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in everything)
    with pytest.raises(capsule.SandboxError, match="closed"):
        session.exchange({"kind": "run"}, b"", 1)


def test_restrictions_stay_inside(tools: ModuleType, workspace: Path) -> None:
    tools.add(0)
    (workspace.parent / "beside").write_text("still mine")
    assert (workspace.parent / "beside").read_text() == "still mine"
    assert "NoNewPrivs:\t0" in Path("/proc/self/status").read_text()
    assert "Seccomp:\t0" in Path("/proc/self/status").read_text()


def test_a_sandbox_that_was_killed_is_made_anew(tools: ModuleType) -> None:
    tools.add(0)
    session = POOL.session(POOL.key(None, "add"))
    session.process.kill()
    session.process.wait()
    assert tools.add(1) == 3
    assert POOL.session(POOL.key(None, "add")) is not session


def test_after_a_call_that_was_told_so_the_next_has_another_sandbox(tools: ModuleType) -> None:
    for _ in range(20):
        told: list[str] = []
        most = 1
        try:
            tools.kill_the_worker()
        except (capsule.SandboxError, capsule.WorkerError):
            most = 0
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                assert tools.add(1) == 3
                break
            except capsule.SandboxError as error:
                told.append(str(error))
        else:
            pytest.fail(f"no other sandbox: {told[-3:]}")
        # However long the old one takes to end.
        assert sum("has gone" in words for words in told) <= most, told
        assert not any("Errno" in words for words in told)


@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        ({"kind": "ended", "reason": "a"}, True),
        ({"kind": "result", "outcome": "ended", "reason": "a", "replaced": True}, True),
        ({"kind": "result", "outcome": "timeout", "timeout_ms": 1, "replaced": True}, True),
        ({"kind": "result", "outcome": "died", "status": 1, "replaced": False}, False),
        ({"kind": "result", "outcome": "returned"}, False),
        ({"kind": "failed"}, False),
        # Words are for people.
        ({"kind": "result", "outcome": "refused", "reason": "the worker has gone: it has ended"}, False),
    ],
)
def test_that_a_sandbox_is_lost_is_told_by_fields(answer: dict[str, object], lost: bool) -> None:
    """A supervisor that the test plays."""
    control, theirs = socket.socketpair()
    with subprocess.Popen(["/bin/true"]) as process, theirs:
        session = Session(process, control)

        def supervise() -> None:
            _, [number], _, _ = socket.recv_fds(theirs, 4096, 1)
            with socket.socket(fileno=number) as lane:
                wire.receive(lane, 4096)
                lane.sendall(wire.pack(answer))
                lane.recv(1)

        supervising = threading.Thread(target=supervise)
        supervising.start()
        try:
            assert session.usable
            with contextlib.suppress(capsule.SandboxError):
                assert session.exchange({"kind": "call"}, b"", 4096).envelope == answer
            assert session.usable is not lost
        finally:
            session.close(now=True)
            supervising.join()


def test_a_call_whose_sandbox_dies_says_so(tools: ModuleType) -> None:
    tools.add(0)
    session = POOL.session(POOL.key(None, "add"))
    threading.Timer(0.3, session.process.kill).start()
    with pytest.raises(capsule.SandboxError, match="gone"):
        tools.sleep(20.0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_makes_its_own_sandbox(tools: ModuleType) -> None:
    assert tools.add(1) == 3
    session = POOL.session(POOL.key(None, "add"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            other = tools.add(2) == 4 and POOL.session(POOL.key(None, "add")) is not session
            code = 0 if other else 2
        finally:
            POOL.close()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert tools.add(1) == 3
    assert POOL.session(POOL.key(None, "add")) is session


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_sandbox_handed_to_a_forked_copy_is_refused(workspace: Path, tools: ModuleType) -> None:
    with capsule.Sandbox() as box:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                box.run(["true"])
            except capsule.SandboxError as error:
                code = 0 if "before a fork" in str(error) else 3
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert box.run(["true"]).ok


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_does_not_keep_the_sandbox_alive(tools: ModuleType) -> None:
    tools.add(1)
    session = POOL.session(POOL.key(None, "add"))
    copy = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    copy.start()
    POOL.close()
    assert session.process.returncode is not None
    copy.kill()
    copy.join()


@pytest.mark.parametrize("end", ["leave", "killed", "crash", "exec"])
def test_however_the_program_ends_the_sandbox_ends(workspace: Path, tools: ModuleType, end: str) -> None:
    (workspace / "program.py").write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        import {tools.__name__} as tools
        from capsule.sdk.pool import POOL
        tools.add(1)
        print(POOL.session(POOL.key(None, "add")).process.pid, flush=True)
        sys.stdin.readline()
        end = {end!r}
        if end == "killed": os.kill(os.getpid(), signal.SIGKILL)
        if end == "crash": os.abort()
        if end == "exec": os.execv("/bin/sleep", ["sleep", "5"])
        """)
    )
    with subprocess.Popen(
        [sys.executable, "program.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        supervisor = int(program.stdout.readline())
        everything = {supervisor, *processes_of(supervisor)}
        assert len(everything) > 2
        program.stdin.write("\n")
        program.stdin.flush()
        deadline = time.monotonic() + 4
        while alive(everything) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(everything)
        program.send_signal(signal.SIGKILL)


def alive(pids: set[int]) -> set[int]:
    """Those that run; a zombie does not."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running
