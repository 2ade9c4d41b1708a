"""A sandbox's first process is begun before the plan is read: it waits, shares nothing later, outlives no refusal."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(180)]

T = TypeVar("T")


def soon(look: Callable[[], T | None], what: str) -> T:
    """What `look` gives once it gives something."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.02)
    pytest.fail(f"not within a minute: {what}")


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def first_process(supervisor: int, binary: Path) -> int | None:
    """The child that is the same program: what it starts to compile a policy is another."""
    for child in children(supervisor):
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if os.fsdecode(line) == str(binary):
            return child
    return None


def in_session(session: int) -> list[int]:
    """The processes of a session, dead ones that nobody waited for too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                found.append(int(entry.name))
    return found


@contextmanager
def started(argv: list[str], cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv, cwd=cwd, env={**os.environ, **env}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        for pid in in_session(process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(timeout=30)


def shared(pid: int) -> int:
    """Bytes in mappings that others may share, of more than one page."""
    total = 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        places, how = line.split(" ")[:2]
        start, end = (int(place, 16) for place in places.split("-"))
        if how.endswith("s") and end - start > 4096:
            total += end - start
    return total


@pytest.mark.needs("root")
def test_what_was_lent_is_not_shared_once_the_command_runs(capsule_binary: Path, workspace: Path) -> None:
    argv = [str(capsule_binary), "run", "--log", str(workspace / "c.log"), "--", "/bin/sleep", "100"]
    with started(argv, workspace, {}) as run:
        monitor = soon(lambda: first_process(run.pid, capsule_binary), "a first process")
        command = soon(lambda: next(iter(children(monitor)), None), "the command")
        soon(lambda: "sleep" in Path(f"/proc/{command}/comm").read_text() or None, "the command's exec")
        assert shared(monitor) == 0
        soon(lambda: shared(run.pid) == 0 or None, "the supervisor lets go of it too")
    with mmap.mmap(-1, 1 << 20):
        assert shared(os.getpid()) >= 1 << 20, "the control: what is shared is seen"


def open_to_others(pid: int) -> bool:
    """Whether the same user can look into its memory."""
    try:
        return bool(Path(f"/proc/{pid}/maps").read_text())
    except PermissionError:
        return False


@pytest.mark.needs("ordinary-user")
def test_a_monitor_is_closed_to_others_once_a_program_runs(capsule_binary: Path, workspace: Path) -> None:
    # Until its exec the command's process has its memory from the monitor.
    argv = [str(capsule_binary), "run", "--log", str(workspace / "c.log"), "--", "/bin/sleep", "100"]
    with started(argv, workspace, {}) as run:
        monitor = soon(lambda: first_process(run.pid, capsule_binary), "a first process")
        command = soon(lambda: next(iter(children(monitor)), None), "the command")
        soon(lambda: "sleep" in Path(f"/proc/{command}/comm").read_text() or None, "the command's exec")
        assert not open_to_others(monitor)
        assert open_to_others(command), "the control: whose memory is its own, under the same user"


def test_a_refused_run_leaves_nobody(capsule_binary: Path, workspace: Path) -> None:
    argv = [str(capsule_binary), "run", "--policy", "no-such-preset", "--", "/bin/true"]
    done = subprocess.Popen(argv, cwd=workspace, start_new_session=True, stderr=subprocess.PIPE, text=True)
    _, told = done.communicate(timeout=60)
    assert done.returncode == 125
    assert "no-such-preset" in told
    assert in_session(done.pid) == []


def test_a_supervisor_that_is_killed_before_it_decides_takes_the_first_process_along(
    capsule_binary: Path, workspace: Path
) -> None:
    slow = workspace / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 100\n")
    slow.chmod(0o755)
    (workspace / "slow.yaml").write_text("capsule: 1\nextends: [workspace]\n")
    argv = [str(capsule_binary), "run", "--policy", "slow.yaml", "--", "/bin/true"]
    with started(argv, workspace, {"CAPSULE_PYTHON": str(slow)}) as run:
        waiting = soon(lambda: first_process(run.pid, capsule_binary), "a first process")
        soon(lambda: len(children(run.pid)) == 2 or None, "the compiler")
        assert children(waiting) == [], "no command yet"
        run.kill()
        run.wait(timeout=30)
        soon(lambda: waiting not in in_session(run.pid) or None, "the end of the first process")
