from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from capsem.errors import CommandTimeoutError, MachineError, NoSuchCommandError, UsageError
from capsem.host import places
from capsem.sdk.pty import AsyncPty, PtySize
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_bytes_size_and_end(tmp_path: Path) -> None:
    async with standing(tmp_path):
        pty = AsyncPty(places.monitor_socket(ID))
        script = "test -t 0 && stty size; read x; stty size; exit $x"
        shell = await pty.create(PtySize(rows=30, cols=100), cmd=script, user=USER, cwd="/")
        assert shell.pid > 0
        seen = b""
        while b"30 100" not in seen:
            seen += await shell.piece() or pytest.fail("it ended before it told its size")
        await shell.resize(PtySize(rows=10, cols=20))
        await shell.send_stdin("7\n")
        async for data in shell:
            seen += data
        assert b"10 20" in seen.partition(b"30 100")[2]
        assert (await shell.wait()).exit_code == 7
        assert await shell.piece() is None


async def test_a_callback_is_told_and_then_nobody_else(tmp_path: Path) -> None:
    told: list[bytes] = []
    async with standing(tmp_path):
        pty = AsyncPty(places.monitor_socket(ID))
        shell = await pty.create(cmd="read x; echo got $x", user=USER, cwd="/", on_data=told.append)
        with pytest.raises(UsageError, match="on_data"):
            await anext(aiter(shell))
        await shell.send_stdin(b"it\n")
        assert (await shell.wait()).exit_code == 0
    assert b"got it" in b"".join(told)


async def test_what_does_not_end_is_ended(tmp_path: Path) -> None:
    async with standing(tmp_path):
        pty = AsyncPty(places.monitor_socket(ID))
        endless = await pty.create(cmd="exec sleep 600", user=USER, cwd="/")
        async with asyncio.timeout(60):
            await endless.kill()
        assert (await endless.wait()).signal == 9
        with pytest.raises(CommandTimeoutError):
            await (await pty.create(cmd="exec sleep 600", user=USER, cwd="/", timeout=0.2)).wait()
        with pytest.raises(NoSuchCommandError):
            await pty.create(cmd=["no-such-program"], user=USER, cwd="/")
        with pytest.raises(UsageError, match="0 rows"):
            await pty.create(PtySize(rows=0))


async def test_without_a_machine() -> None:
    with pytest.raises(MachineError):
        await AsyncPty(places.monitor_socket(ID)).create()
