from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsem.errors import UsageError
from capsem.processes.service.idle import VARIABLE, Idle, limit, until_idle
from tests.vm.processes import alive


@pytest.mark.asyncio
async def test_it_is_idle_from_the_last_answer_on() -> None:
    now, go = 0.0, asyncio.Event()

    async def app(*_: object) -> None:
        await go.wait()

    idle = Idle(app, lambda: now)
    now = 5.0
    assert idle.seconds == 5.0
    asked = asyncio.create_task(idle({}, asyncio.sleep, asyncio.sleep))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    now = 100.0
    assert idle.seconds == 0.0, "an answer is under way"
    go.set()
    await asked
    now = 103.0
    assert idle.seconds == 3.0
    await asyncio.wait_for(until_idle(idle, 3.0), 5)


def test_how_long_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert limit() == 900.0
    monkeypatch.setenv(VARIABLE, "7")
    assert limit() == 7.0
    for wrong in ("0", "-1", "soon", "1e9x"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(UsageError, match=VARIABLE):
            limit()


def test_a_service_that_nobody_asks_ends_and_the_next_client_has_another(capsem_home: Path) -> None:
    def asked() -> int:
        done = subprocess.run(
            [sys.executable, "-m", "capsem.cli", "list"], env={**os.environ, VARIABLE: "2"}, timeout=120,
            capture_output=True, check=True,
        )  # fmt: skip
        assert b"no machines" in done.stdout
        return int((capsem_home / "run/service.lock").read_text())

    first = asked()
    until = time.monotonic() + 60
    while alive(first):
        assert time.monotonic() < until, "it ends when it is idle"
        time.sleep(0.1)
    assert not (capsem_home / "run/service.sock").exists()
    assert asked() != first
