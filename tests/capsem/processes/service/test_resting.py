"""The service as a process that nobody asks for anything."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from capsem.host.service import call


def woken(pid: int) -> int:
    """How often its threads went to sleep (proc_pid_status(5))."""
    found = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        lines = (thread / "status").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return found


def at_rest(home: Path) -> int:
    """The process of a service that has done all that it does unasked."""
    assert asyncio.run(call("GET", "/machines")) == []
    pid = int((home / "run/service.lock").read_text())
    time.sleep(3)
    return pid


def test_it_sleeps(capsem_home: Path) -> None:
    pid = at_rest(capsem_home)
    before = woken(pid)
    time.sleep(3)
    assert woken(pid) - before <= 5
    before = woken(pid)
    for _ in range(20):
        assert asyncio.run(call("GET", "/machines")) == []
    assert woken(pid) - before > 5, "the positive control"


def there(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to_while_it_sleeps(capsem_home: Path, how: signal.Signals) -> None:
    pid = at_rest(capsem_home)
    os.kill(pid, how)
    until = time.monotonic() + 20
    while there(pid):
        assert time.monotonic() < until, "it sleeps on"
        time.sleep(0.02)


def test_it_ends_by_itself_when_nobody_asks(capsem_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSEM_SERVICE_IDLE", "1")
    assert asyncio.run(call("GET", "/machines")) == []
    until = time.monotonic() + 30
    while (capsem_home / "run/service.sock").exists():
        assert time.monotonic() < until, "it stays"
        time.sleep(0.05)
