"""The SDK against a monitor's door and the real agent; only QEMU is missing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capsem.errors import CommandTimeoutError, MachineError, NotFoundError, UsageError
from capsem.host import places
from capsem.sdk.async_sandbox import AsyncSandbox
from capsem.sdk.command import Piece
from capsule.errors import PolicyError
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


@contextlib.asynccontextmanager
async def box(tmp_path: Path) -> AsyncIterator[AsyncSandbox]:
    async with standing(tmp_path):
        machine = {
            "id": ID,
            "name": "n",
            "socket": str(places.monitor_socket(ID)),
            "log": str(places.log(ID)),
        }
        yield AsyncSandbox(machine)


async def test_commands(tmp_path: Path) -> None:
    told: list[str] = []
    async with box(tmp_path) as sandbox:
        result = await sandbox.commands.run(
            "echo out; echo err >&2; exit 3", user=USER, cwd="/", on_stdout=told.append
        )
        assert (result.exit_code, result.stdout, result.stderr, result.signal) == (3, "out\n", "err\n", None)
        assert told == ["out\n"]
        given = await sandbox.commands.run(["cat"], user=USER, cwd="/", stdin="text", envs={"A": "1"})
        assert given.stdout == "text"
        with pytest.raises(CommandTimeoutError):
            await sandbox.commands.run("exec sleep 60", user=USER, cwd="/", timeout=0.2)
        died = await sandbox.commands.run("kill -9 $$", user=USER, cwd="/")
        assert (died.exit_code, died.signal) == (137, 9)


async def test_a_command_in_the_background(tmp_path: Path) -> None:
    async with box(tmp_path) as sandbox:
        handle = await sandbox.commands.run("cat; exit 4", user=USER, cwd="/", background=True)
        assert handle.pid > 0
        await handle.send_stdin("one ")
        await handle.send_stdin(b"two")
        await handle.close_stdin()
        result = await handle.wait()
        assert (result.exit_code, result.stdout) == (4, "one two")
        endless = await sandbox.commands.run("exec sleep 60", user=USER, cwd="/", background=True)
        await endless.kill()
        assert (await endless.wait()).signal == 9


async def test_files(tmp_path: Path) -> None:
    async with box(tmp_path) as sandbox:
        if os.getuid() != 0:
            pytest.skip("needs root: files are those of the machine's root")
        folder = str(tmp_path / "a/b")
        assert not await sandbox.files.exists(folder)
        await sandbox.files.make_dir(folder)
        await sandbox.files.write(f"{folder}/x", "text")
        await sandbox.files.write(f"{folder}/y", bytes(range(256)) * 4096, mode=0o600)
        assert await sandbox.files.read(f"{folder}/x") == "text"
        assert await sandbox.files.read(f"{folder}/y", format="bytes") == bytes(range(256)) * 4096
        assert [(one.name, one.type, one.size) for one in await sandbox.files.list(folder)] == [
            ("x", "file", 4), ("y", "file", 1 << 20),
        ]  # fmt: skip
        await sandbox.files.remove(folder)
        assert not await sandbox.files.exists(folder)
        with pytest.raises(NotFoundError):
            await sandbox.files.read(f"{folder}/x")


async def test_a_machine_that_is_gone_is_an_error_and_a_second_end_is_not(tmp_path: Path) -> None:
    async with box(tmp_path) as sandbox:
        pass
    with pytest.raises(MachineError):
        await sandbox.commands.run("true")
    assert await sandbox.kill() is False
    assert await sandbox.is_running() is False
    with pytest.raises(NotFoundError):
        await AsyncSandbox.connect("none")
    with pytest.raises(NotFoundError, match="no image"):
        await AsyncSandbox.create("no-such-image")
    with pytest.raises(UsageError, match=r"rules none\.yaml cannot be read: No such file"):
        await AsyncSandbox.create("minimal", rules=["./none.yaml"])
    with pytest.raises(PolicyError, match=r"none\.yaml") as caught:
        await AsyncSandbox.create("minimal", policy=Path("./none.yaml"))
    assert caught.value.next_step


async def test_a_command_s_output_as_it_comes(tmp_path: Path) -> None:
    async with box(tmp_path) as sandbox:
        found = [one async for one in sandbox.commands.stream("echo a; exit 3", user=USER, cwd="/")]
        assert found == [Piece("a\n"), Piece("", exit_code=3)]
        coming = sandbox.commands.stream(
            f"echo $$ > {tmp_path}/pid; echo up; exec sleep 60", user=USER, cwd="/"
        )
        assert await anext(coming) == Piece("up\n")
        await coming.aclose()
        pid = int((tmp_path / "pid").read_text())
        async with asyncio.timeout(60):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="by its handle"):
            await sandbox.commands.run("true", background=True, check=True)  # type: ignore[call-overload]


async def test_a_command_that_nobody_waits_for_any_longer_is_killed(tmp_path: Path) -> None:
    async with box(tmp_path) as sandbox:
        line = f"echo $$ > {tmp_path}/pid; echo up; exec sleep 600"
        up = asyncio.Event()
        running = asyncio.create_task(
            sandbox.commands.run(line, user=USER, cwd="/", timeout=None, on_stdout=lambda _: up.set())
        )
        async with asyncio.timeout(60):
            await up.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            pid = int((tmp_path / "pid").read_text())
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="no variable"):
            await sandbox.commands.run("true", envs={"A=B": "c"})
        assert (await sandbox.commands.run("true", user=USER, cwd="/")).exit_code == 0, "the machine lives on"


async def test_commands_are_listed_attended_to_and_ended_by_their_number(tmp_path: Path) -> None:
    told: list[str] = []
    async with box(tmp_path) as sandbox:
        assert await sandbox.commands.list() == []
        handle = await sandbox.commands.run("cat; exit 3", user=USER, cwd="/", background=True)
        (info,) = await sandbox.commands.list()
        assert (info.pid, info.cmd, info.args) == (handle.pid, "/bin/sh", ("-c", "cat; exit 3"))
        other = await sandbox.commands.connect(handle.pid, on_stdout=told.append)
        await sandbox.commands.send_stdin(handle.pid, "from elsewhere\n")
        await sandbox.commands.close_stdin(handle.pid)
        for one in (handle, other):
            result = await one.wait()
            assert (result.exit_code, result.stdout) == (3, "from elsewhere\n")
        assert "".join(told) == "from elsewhere\n"
        with pytest.raises(NotFoundError):
            await sandbox.commands.connect(handle.pid)
        with pytest.raises(NotFoundError):
            await sandbox.commands.send_stdin(handle.pid, "x")
        assert not await sandbox.commands.kill(handle.pid)
        endless = await sandbox.commands.run("exec sleep 60", user=USER, cwd="/", background=True)
        assert await sandbox.commands.kill(endless.pid)
        assert (await endless.wait()).signal == 9
        async with asyncio.timeout(5):
            while await sandbox.commands.list():
                await asyncio.sleep(0.01)


async def test_a_command_that_was_begun_without_an_input_takes_none(tmp_path: Path) -> None:
    async with box(tmp_path) as sandbox:
        running = asyncio.create_task(sandbox.commands.run("exec sleep 60", user=USER, cwd="/"))
        async with asyncio.timeout(5):
            while not (found := await sandbox.commands.list()):
                await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="without an input"):
            await sandbox.commands.send_stdin(found[0].pid, "x")
        assert await sandbox.commands.kill(found[0].pid)
        assert (await running).signal == 9


async def test_a_command_runs_on_when_it_is_let_go(tmp_path: Path) -> None:
    async with box(tmp_path) as sandbox:
        handle = await sandbox.commands.run("read x; echo $x", user=USER, cwd="/", background=True)
        await handle.disconnect()
        await handle.disconnect()
        with pytest.raises(UsageError, match="was disconnected"):
            await handle.wait()
        (info,) = await sandbox.commands.list()
        assert not info.attended
        other = await sandbox.commands.connect(info.pid)
        await other.disconnect()
        with pytest.raises(UsageError, match="was disconnected"):
            await other.wait()
        other = await sandbox.commands.connect(info.pid)
        await other.send_stdin("later\n")
        assert (await other.wait()).stdout == "later\n"
        over = await sandbox.commands.run("exit 2", user=USER, cwd="/", background=True)
        await asyncio.sleep(0.3)
        await over.disconnect()
        assert (await over.wait()).exit_code == 2


async def test_a_machine_ends_when_its_time_is_over(tmp_path: Path) -> None:
    ended: list[str | None] = []

    async def stop(*, force: bool, why: str | None = None) -> None:
        assert not force
        ended.append(why)

    async with standing(tmp_path) as machine:
        machine.stop = stop  # type: ignore[method-assign]
        sandbox = AsyncSandbox(
            {"id": ID, "name": "n", "socket": str(places.monitor_socket(ID)), "log": str(places.log(ID))}
        )
        for wrong in (0, -1, float("nan"), float("inf")):
            with pytest.raises(UsageError, match="is no time"):
                await sandbox.set_timeout(wrong)
        assert machine.status().ends_in_ms is None
        await sandbox.set_timeout(0.2)
        await sandbox.set_timeout(1000)
        await asyncio.sleep(0.4)
        assert ended == [], "what was said last counts"
        assert 990_000 < (machine.status().ends_in_ms or 0) <= 1_000_000
        await sandbox.set_timeout(None)
        assert machine.status().ends_in_ms is None
        await sandbox.set_timeout(0.1)
        await asyncio.sleep(0.3)
        assert ended == ["its time of 0.1 s was over"]
