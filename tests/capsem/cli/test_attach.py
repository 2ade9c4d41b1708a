"""A terminal of the user's, through the command line, to a terminal of the machine's."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import termios
from pathlib import Path

import pytest

from tests.capsem.cli.served import served
from tests.capsem.processes.monitor.standing import USER

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home"), pytest.mark.needs("pty")]


@pytest.mark.parametrize(("size", "told"), [((40, 100), b"40 100"), ((0, 0), b"24 80")])
async def test_keys_and_size_reach_the_command_and_the_terminal_is_as_before(
    tmp_path: Path, size: tuple[int, int], told: bytes
) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, size)
    before = termios.tcgetattr(theirs)
    async with served(tmp_path):
        line = "stty size; read word; echo got $word; exit 6"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "capsem.cli", "exec", "-t", "-w", "/", "-u", str(USER), "build", "--",
            "/bin/sh", "-c", line,
            stdin=theirs, stdout=theirs, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        shown = bytearray()

        async def until(text: bytes) -> None:
            async with asyncio.timeout(30):
                while text not in shown:
                    shown.extend(await asyncio.to_thread(os.read, ours, 4096))

        await until(told)
        os.write(ours, b"hello\r")
        await until(b"got hello")
        assert await asyncio.wait_for(process.wait(), 30) == 6
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
