from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from capsem.errors import CommandTimeoutError, MachineError, NotFoundError, UsageError
from capsem.host import places
from capsem.sdk.async_sandbox import AsyncSandbox
from capsem.sdk.command import Piece
from capsem.sdk.sandbox import Sandbox
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


def used(tmp_path: Path) -> None:
    """What a program without an event loop does."""
    machine = {"id": ID, "name": "n", "socket": str(places.monitor_socket(ID)), "log": str(places.log(ID))}
    with Sandbox(AsyncSandbox(machine)) as box:
        assert box.commands.run("echo $A", envs={"A": "b"}, user=USER, cwd="/").stdout == "b\n"
        handle = box.commands.run("cat", background=True, user=USER, cwd="/")
        handle.send_stdin("x")
        handle.close_stdin()
        assert handle.wait().stdout == "x"
        pieces = list(box.commands.stream("echo one; echo two >&2; exit 3", user=USER, cwd="/"))
        assert pieces[-1] == Piece("", exit_code=3)
        assert {(piece.text, piece.stderr) for piece in pieces[:-1]} == {("one\n", False), ("two\n", True)}
        for piece in box.commands.stream(
            f"echo $$ > {tmp_path}/pid; echo up; exec sleep 60", user=USER, cwd="/"
        ):
            assert piece.text == "up\n"
            break
        with pytest.raises(UsageError, match="by its handle"):
            box.commands.run("cat", background=True, stdin="x", user=USER, cwd="/")  # type: ignore[call-overload]
        with pytest.raises(CommandTimeoutError):
            list(box.commands.stream("exec sleep 60", timeout=0.2, user=USER, cwd="/"))
        shell = box.pty.create(cmd="stty size; read x; exit $x", user=USER, cwd="/")
        shell.send_stdin("3\n")
        assert b"24 80" in b"".join(shell)
        assert shell.wait().exit_code == 3
        # Files are those of the machine's root; an agent that is none says so.
        missing = NotFoundError if os.getuid() == 0 else MachineError
        with pytest.raises(missing):
            box.files.read("/no/such/file", format="bytes")


async def test_the_same_names_without_await(tmp_path: Path) -> None:
    async with standing(tmp_path):
        await asyncio.to_thread(used, tmp_path)
        pid = int((tmp_path / "pid").read_text())
        async with asyncio.timeout(5):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.01)
