"""The end of another process."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest

from capsem.host.ending import ended

pytestmark = pytest.mark.asyncio


async def test_it_returns_when_the_process_has_ended_and_not_before() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        process = os.pidfd_open(sleeping.pid)
        try:
            waiting = asyncio.create_task(ended(process))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            sleeping.kill()
            await asyncio.wait_for(waiting, 30)
            await ended(process)
        finally:
            os.close(process)
