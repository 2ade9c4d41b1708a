from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from capsem.errors import MachineError, NotFoundError
from capsem.host import places, transfer
from capsem.host.operation import ask, begin, read_file, write_file
from capsem.processes.monitor import patience
from capsem.processes.monitor.machine import Machine
from capsem.processes.service.kept import shown
from capsem.wire.monitor import Exec, Exited, File, Info, Started, Status
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


def agent_of(tmp_path: Path) -> int:
    """The agent's process: ours, and at work on these ports."""
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit() and str(tmp_path / "ports").encode() in (
                directory / "cmdline"
            ).read_bytes().split(b"\0"):
                return int(directory.name)
    raise AssertionError("no agent")


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65536


async def test_a_guest_that_stands_still_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path) as machine:
        socket = places.monitor_socket(ID)
        here = tmp_path / "here"
        here.mkdir()
        (here / "file").write_bytes(b"content")
        before = {name.name for name in here.iterdir()}
        read = File("read", str(here / "file"), user=USER)
        assert await read_file(socket, read) == b"content"
        monkeypatch.setattr(patience, "LOOK_SECONDS", 0.2)
        monkeypatch.setattr(patience, "ANSWER_SECONDS", 0.5)
        with standing_still(agent_of(tmp_path)):
            write = File("write", str(here / "new"), user=USER, mode=0o600)
            results = await asyncio.wait_for(
                asyncio.gather(
                    read_file(socket, read),
                    write_file(socket, write, endless()),
                    transfer.fetch(socket, str(here), lambda data: None, user=USER),
                    transfer.send(socket, str(here / "more"), iter([b"x" * 512] * 10_000), user=USER),
                    *(
                        ask(socket, File(op, str(here), user=USER))
                        for op in ("stat", "list", "mkdir", "remove")
                    ),
                    return_exceptions=True,
                ),
                60,
            )
            for result in results:
                assert isinstance(result, MachineError), result
                assert "the machine does not answer" in str(result)
                assert "capsem stop --force" in result.next_step
            assert isinstance(await ask(socket, Info()), Status)
            assert machine.jobs == 0, "nothing of it is held on to"
        # It goes on where it stood, and so does its machine.
        monkeypatch.setattr(patience, "ANSWER_SECONDS", 60.0)
        await answers(machine, 60)
        assert await read_file(socket, read) == b"content"
        assert {name.name for name in here.iterdir()} - {"more"} == before, "nothing half-written is left"


async def test_what_takes_long_is_waited_for_while_the_agent_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.05)
    async with standing(tmp_path) as machine:

        async def long() -> str:
            await asyncio.sleep(1.0)
            return "done"

        assert await machine.patience.while_it_answers(machine.channel, long()) == "done"

        async def fails() -> str:
            raise NotFoundError("none", next_step="look")

        with pytest.raises(NotFoundError):
            await machine.patience.while_it_answers(machine.channel, fails())


async def test_a_command_in_a_guest_that_stands_still_ends_and_its_machine_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(patience, "ANSWER_SECONDS", 0.5)
    async with standing(tmp_path) as machine:
        socket = places.monitor_socket(ID)
        silent = Exec(argv=("sleep", "3"), user=USER, cwd="/")
        long = await begin(socket, silent)
        # Nothing comes from it, and it is waited for: its agent answers.
        assert (await anext(one async for one in long if isinstance(one, Exited))).code == 0
        two = [await begin(socket, Exec(argv=("sleep", "599"), user=USER, cwd="/")) for _ in range(2)]
        for one in two:
            assert isinstance(await anext(aiter(one)), Started)
        with standing_still(agent_of(tmp_path)):
            for one in two:
                with pytest.raises(MachineError, match="does not answer: nothing came within") as caught:
                    async with asyncio.timeout(30):
                        await anext(aiter(one))
                assert "capsem stop --force" in caught.value.next_step
            status = await ask(socket, Info())
            assert isinstance(status, Status)
            assert status.problem is not None
            assert "has not answered for" in status.problem
            assert shown(machine.record, status)["next_step"] == (
                f"wait, or: capsem stop --force {ID}, capsem start {ID}; its disk is kept"
            )
        await answers(machine, 30)
        status = await ask(socket, Info())
        assert isinstance(status, Status)
        assert (status.problem, status.jobs) == (None, 0)
        again = await begin(socket, Exec(argv=("true",), user=USER, cwd="/"))
        assert (await anext(one async for one in again if isinstance(one, Exited))).code == 0
        for one in (long, *two, again):
            await one.close()
        async with asyncio.timeout(30):
            while b"sleep\x00599" in commands():
                await asyncio.sleep(0.05)
    kinds = [json.loads(line).get("type") for line in places.log(ID).read_text().splitlines()]
    assert (kinds.count("machine.unanswered"), kinds.count("machine.answers")) == (1, 1)


async def test_one_that_stands_still_for_a_copy_is_no_guest_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(patience, "ANSWER_SECONDS", 0.5)
    async with standing(tmp_path) as machine:
        silent = asyncio.create_task(machine.patience.silent(machine.channel))
        # It runs on shortly before a question is too old, too.
        for seconds in (1.2, 0.5, 0.53, 0.47):
            await machine.channel.freeze()
            await asyncio.sleep(seconds)
            await machine.channel.thaw(time.time_ns())
        await asyncio.sleep(0.8)
        assert not silent.done()
        assert machine.patience.problem is None
        silent.cancel()


async def answers(machine: Machine, seconds: float) -> None:
    """Returns when its agent answers again."""
    async with asyncio.timeout(seconds):
        while machine.patience.problem is not None:
            await asyncio.sleep(0.01)


def commands() -> bytes:
    """The command lines of what runs here."""
    found = b""
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit():
                found += (directory / "cmdline").read_bytes()
    return found
