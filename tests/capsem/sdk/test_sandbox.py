from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from capsem.errors import CommandTimeoutError, MachineError, NotFoundError, UsageError
from capsem.host import places
from capsem.host.link import Link
from capsem.processes.monitor import looking
from capsem.sdk.async_sandbox import AsyncSandbox
from capsem.sdk.command import Piece
from capsem.sdk.files import Files as AsyncFiles
from capsem.sdk.sandbox import Files, Sandbox
from capsem.wire.frame import Data
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import OUTPUT
from tests.capsem.host.test_operation import monitor
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
        other = box.commands.run("read x; exit $x", background=True, user=USER, cwd="/")
        assert [one.pid for one in box.commands.list()] == [other.pid]
        other.disconnect()
        again = box.commands.connect(other.pid)
        box.commands.send_stdin(other.pid, "7\n")
        assert again.wait().exit_code == 7
        assert not box.commands.kill(other.pid)
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
        if os.getuid() == 0:
            box.files.write_files({f"{tmp_path}/a": "1"})
            assert b"".join(box.files.read(f"{tmp_path}/a", format="stream")) == b"1"
            assert box.files.make_dir(f"{tmp_path}/made")
            assert box.files.rename(f"{tmp_path}/a", f"{tmp_path}/made/b").name == "b"
            assert box.files.get_info(f"{tmp_path}/made/b").size == 1
            watched = box.files.watch_dir(f"{tmp_path}/made")
            (tmp_path / "made/c").touch()
            until = time.monotonic() + 10
            while not (events := watched.get_new_events()):
                assert time.monotonic() < until
                time.sleep(0.02)
            assert [(one.name, one.type) for one in events] == [("c", "create")]
            watched.stop()
        box.set_timeout(1000)
        box.set_timeout(None)
        # Files are those of the machine's root; an agent that is none says so.
        missing = NotFoundError if os.getuid() == 0 else MachineError
        with pytest.raises(missing):
            box.files.read("/no/such/file", format="bytes")


async def test_the_same_names_without_await(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "AGENT", str(Path(sys.prefix, "bin/capsem-agent")))
    async with standing(tmp_path):
        await asyncio.to_thread(used, tmp_path)
        pid = int((tmp_path / "pid").read_text())
        async with asyncio.timeout(5):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.01)


async def test_leaving_the_stream_of_a_file_hangs_up(tmp_path: Path) -> None:
    hung_up = asyncio.Event()

    async def endless(link: Link) -> None:
        await link.send(encode_frame(Data(OUTPUT, b"x")))
        assert await link.receive() is None
        hung_up.set()

    def used(path: Path) -> None:
        coming = Files(AsyncFiles(path)).read("/x", format="stream")
        for piece in coming:
            assert piece == b"x"
            break
        coming.close()  # type: ignore[attr-defined]  # what leaving the loop does where nothing else has it

    async with monitor(tmp_path / "s", endless) as path, asyncio.timeout(20):
        await asyncio.to_thread(used, path)
        await hung_up.wait()
