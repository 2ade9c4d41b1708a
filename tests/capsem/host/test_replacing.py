from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

from capsem.errors import VersionError
from capsem.host import replacing
from capsem.wire.versions import OURS, Version

pytestmark = pytest.mark.asyncio

STUBBORN = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
)
WILLING = "import sys; print(flush=True); sys.stdin.read()"


def process(code: str) -> subprocess.Popen[bytes]:
    started = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout is not None
    started.stdout.readline()
    return started


async def test_it_leaves_when_it_is_asked() -> None:
    with process(WILLING) as service:
        await replacing.until_left(service.pid, None)
    assert service.returncode == -15
    await replacing.until_left(service.pid, None)  # it has already
    replacing.ask_to_leave(service.pid)


async def test_one_that_does_not_is_named_and_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "LEAVE_SECONDS", 0.2)
    with process(STUBBORN) as service:
        try:
            with pytest.raises(
                VersionError, match=r"is capsem 0\.0\.1 \(wire 1\), older than this capsem"
            ) as caught:
                await replacing.until_left(service.pid, Version("0.0.1", 1))
            assert f"kill -9 {service.pid}" in caught.value.next_step
            with pytest.raises(VersionError, match="does not tell its version"):
                await replacing.until_left(service.pid, None)
            assert service.poll() is None
        finally:
            service.kill()


async def test_which_is_which() -> None:
    assert Version(metadata.version("capsem")) == OURS
    error = replacing.refused(7, Version("99.0", 9))
    assert "process 7" in error.message
    assert "capsem 99.0 (wire 9), newer than this" in error.message
    assert error.next_step
