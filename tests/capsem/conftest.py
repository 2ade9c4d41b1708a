"""Tests of the distribution `capsem`: where it is not installed, each file is skipped by name."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capabilities import absent


class _Absent(pytest.Module):
    """A test file that cannot be imported here."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(f"needs capsem: {absent('capsem')}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if absent("capsem") is None:
        return None
    return _Absent.from_parent(parent, path=module_path)


@pytest.fixture
def capsem_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home whose path is short enough for a socket; its service is ended afterwards."""
    home = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
    monkeypatch.setenv("CAPSEM_HOME", str(home))
    try:
        yield home
    finally:
        end_service(home)
        shutil.rmtree(home, ignore_errors=True)


def end_service(home: Path) -> None:
    """End the service of a home, if there is one."""
    lock = home / "run/service.lock"
    pid = int(lock.read_text() or "0") if lock.exists() else 0
    if not pid or not Path(f"/proc/{pid}").exists():
        return
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z"):
            return
        time.sleep(0.02)
