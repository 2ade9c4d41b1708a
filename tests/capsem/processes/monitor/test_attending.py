"""Commands that several clients attend to, by the door of a monitor, done by the real agent."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from capsem.errors import ConflictError, MachineError, NoRoomError, NotFoundError, UsageError
from capsem.host import places
from capsem.host.link import connect
from capsem.host.operation import Operation, Output, ask, begin
from capsem.processes.monitor import attending, evidence
from capsem.processes.monitor.acts import TOLD_LIMIT
from capsem.wire.frame import Data, Message
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import (
    INPUT,
    WINDOW,
    Attach,
    Command,
    Commands,
    Detach,
    Done,
    Exec,
    Exited,
    Failed,
    Listed,
    Size,
    Started,
    decode_monitor,
    encode,
)
from capsule.audit.store import verify
from capsule.audit.verifier import Outcome
from capsule.sandbox.launcher import find_binary
from tests.capsem.processes.monitor.standing import ID, USER, shell, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def begun(asked: Exec | Attach) -> tuple[Operation, int]:
    operation = await begin(places.monitor_socket(ID), asked)
    try:
        async for said in operation:
            assert isinstance(said, Started)
            return operation, said.pid
        raise AssertionError
    except BaseException:
        await operation.close()
        raise


async def rest(operation: Operation) -> tuple[bytes, Exited | None]:
    out = bytearray()
    try:
        async for said in operation:
            if isinstance(said, Output):
                out += said.content
            else:
                return bytes(out), said if isinstance(said, Exited) else None
        raise AssertionError
    finally:
        await operation.close()


async def listed() -> tuple[Command, ...]:
    said = await ask(places.monitor_socket(ID), Commands())
    assert isinstance(said, Listed)
    return said.commands


async def none_left() -> None:
    async with asyncio.timeout(5):
        while await listed():
            await asyncio.sleep(0.01)


async def test_what_runs_is_listed_while_it_runs(tmp_path: Path) -> None:
    async with standing(tmp_path):
        assert await listed() == ()
        one, pid = await begun(shell("cat", stdin=True))
        two, _ = await begun(Exec(argv=("/bin/sleep", "9" * (2 * TOLD_LIMIT)), user=USER, cwd="/"))
        first, second = await listed()
        assert (first.pid, first.argv, first.cwd, first.user) == (pid, ("/bin/sh", "-c", "cat"), "/", USER)
        assert (first.stdin, first.tty, first.attended, first.cut) == (True, False, True, False)
        assert second.cut
        assert sum(map(len, second.argv)) == TOLD_LIMIT
        await one.close()
        await two.close()
        await none_left()


async def test_as_many_as_an_agent_runs_fit_into_one_answer(tmp_path: Path) -> None:
    async with standing(tmp_path):
        # A control character is six bytes of JSON.
        worst = shell(f"sleep 60 #{chr(1) * 9000}")
        running = [await begun(worst) for _ in range(64)]
        assert len(await listed()) == 64
        for operation, _ in running:
            await operation.close()
        await none_left()


async def test_several_clients_see_what_comes_and_the_end(tmp_path: Path) -> None:
    async with standing(tmp_path):
        own, pid = await begun(shell("read x; echo $x; echo e >&2; exit 5", stdin=True))
        others = [(await begun(Attach(pid)))[0] for _ in range(3)]
        await others[0].write(b"from another\n")
        for operation in (own, *others):
            out, ended = await rest(operation)
            assert sorted(out.split(b"\n")) == [b"", b"e", b"from another"]
            assert ended is not None
            assert ended.code == 5
            assert ended.seen is not None
        with pytest.raises(NotFoundError, match="no command with process id"):
            await begun(Attach(pid))


async def test_another_client_comes_and_goes_and_its_own_ends_it(tmp_path: Path) -> None:
    async with standing(tmp_path):
        own, pid = await begun(shell("exec sleep 60"))
        other, _ = await begun(Attach(pid))
        await other.close()
        await asyncio.sleep(0.1)
        assert [one.pid for one in await listed()] == [pid]
        other, _ = await begun(Attach(pid))
        await own.close()
        _, ended = await rest(other)
        assert ended is not None
        assert ended.signal == signal.SIGKILL
        await none_left()


async def test_another_client_may_signal(tmp_path: Path) -> None:
    async with standing(tmp_path):
        own, pid = await begun(shell("exec sleep 60"))
        other, _ = await begun(Attach(pid))
        await other.signal(signal.SIGTERM)
        for operation in (own, other):
            _, ended = await rest(operation)
            assert ended is not None
            assert ended.signal == signal.SIGTERM


LONG = 1_200_000
"""Bytes: more than all buffers on the way hold but the stream's window, so the command ends before they are read."""


async def test_its_own_client_gets_everything_however_late_it_reads(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with standing(tmp_path):
        own, _ = await begun(shell(f"head -c {LONG} /dev/zero; touch {mark}; exit 5"))
        async with asyncio.timeout(10):
            while not mark.exists():
                await asyncio.sleep(0.05)
        await asyncio.sleep(5 * attending._LINGER_SECONDS)
        async with asyncio.timeout(10):
            out, ended = await rest(own)
        assert len(out) == LONG
        assert ended is not None
        assert ended.code == 5


async def test_another_client_that_does_not_read_keeps_nothing_from_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attending, "_BEHIND_SECONDS", 0.5)
    async with standing(tmp_path):
        own, pid = await begun(shell(f"read x; head -c {LONG} /dev/zero; exit 5", stdin=True))
        idle = []
        for _ in range(3):
            idle.append(await connect(places.monitor_socket(ID)))
            await idle[-1].send(encode(Attach(pid)))
            assert isinstance(await idle[-1].receive(), Message)
        await own.write(b"\n")
        async with asyncio.timeout(30):
            out, ended = await rest(own)
        assert len(out) == LONG
        assert ended is not None
        assert ended.code == 5
        for link in idle:
            await link.close()
        await none_left()


async def test_a_command_that_is_let_go_runs_on_and_takes_what_it_was_given(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    line = f"read a; echo $a >>{mark}; read b; head -c 3000000 /dev/zero; read c; echo $b$c; exit 6"
    async with standing(tmp_path):
        own, pid = await begun(shell(line, stdin=True))
        await own.write(b"one\n")
        await own.detach()
        out, ended = await rest(own)
        assert (out, ended) == (b"", None)
        async with asyncio.timeout(5):
            while not mark.exists() or not mark.read_text():
                await asyncio.sleep(0.01)
        (told,) = await listed()
        assert (told.pid, told.attended) == (pid, False)
        # Nobody is there for three megabytes: they hold nothing up.
        other, _ = await begun(Attach(pid))
        reading = asyncio.create_task(rest(other))
        await other.write(b"two\n")
        await other.taken()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await other.close()
        await asyncio.sleep(0.5)
        last, _ = await begun(Attach(pid))
        await last.write(b"three\n")
        out, ended = await rest(last)
        assert out.endswith(b"twothree\n")
        assert ended is not None
        assert ended.code == 6
        await none_left()


async def test_a_command_that_was_let_go_keeps_its_time(tmp_path: Path) -> None:
    async with standing(tmp_path):
        own, pid = await begun(shell("exec sleep 60", timeout_ms=400))
        await own.detach()
        await rest(own)
        other, _ = await begun(Attach(pid))
        _, ended = await rest(other)
        assert ended is not None
        assert ended.timed_out


async def test_input_for_a_command_that_takes_none_is_an_error_and_does_not_end_it(tmp_path: Path) -> None:
    async with standing(tmp_path):
        own, pid = await begun(shell("exec sleep 60"))
        other, _ = await begun(Attach(pid))
        await other.write(b"x")
        with pytest.raises(UsageError, match="without an input"):
            await rest(other)
        assert [one.pid for one in await listed()] == [pid]
        await own.close()


async def test_what_no_client_may_say_ends_its_own_attendance_alone(tmp_path: Path) -> None:
    async with standing(tmp_path):
        own, pid = await begun(shell("exec sleep 60", stdin=True))
        for wrong in (
            encode(Detach()),
            encode(Attach(pid)),
            encode_frame(Data(3, b"x")),
            b"".join(encode_frame(Data(INPUT, b"x" * (1 << 18))) for _ in range((WINDOW >> 18) + 8)),
        ):
            link = await connect(places.monitor_socket(ID))
            await link.send(encode(Attach(pid)) + wrong)
            said = [frame async for frame in frames(link)]
            assert isinstance(decode_monitor(said[0]), Started)
            assert isinstance(decode_monitor(said[-1]), Failed)
            await link.close()
        assert [one.pid for one in await listed()] == [pid]
        await own.close()


def verified(log: Path) -> bool:
    """By both verifiers."""
    binary = subprocess.run([find_binary(), "verify", str(log)], capture_output=True, check=False)
    return binary.returncode == 0 and verify(log).outcome is Outcome.VERIFIED


async def frames(link: Any) -> Any:
    while (frame := await link.receive()) is not None:
        if isinstance(frame, Message):
            yield frame


async def test_a_machine_that_gives_one_number_twice_is_not_guessed_at(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        own, pid = await begun(shell("exec sleep 60"))
        twin = machine.commands.of(pid)
        other = attending.Attended(twin._job, twin._links[0], twin._asked, twin.about, twin._attends)
        with machine.commands.begin(other), pytest.raises(ConflictError, match="they are process"):
            await begun(Attach(pid))
        await own.close()


def attended() -> list[dict[str, Any]]:
    """The entries of it, and of commands, without what the log itself adds."""
    kinds = {"machine.exec", "machine.attended", "machine.exit"}
    lines = [json.loads(line) for line in places.log(ID).read_text().splitlines()]
    return [line for line in lines if line.get("type") in kinds]


async def test_what_another_client_does_is_on_the_log(tmp_path: Path) -> None:
    async with standing(tmp_path):
        own, pid = await begun(shell("read a; read b; echo $b; exec sleep 60", stdin=True))
        await own.write(b"its own\n")
        other, _ = await begun(Attach(pid))
        for piece in (b"x", b"y\n"):
            await other.write(piece)
        await other.resize(3, 4)
        async with asyncio.timeout(10):
            async for said in other:
                if isinstance(said, Output):
                    break
        await other.close()
        last, _ = await begun(Attach(pid))
        await last.end_input()
        for number in (signal.SIGURG, signal.SIGKILL):
            await last.signal(number)
        for operation in (own, last):
            await rest(operation)
    begin_, *acts, end = attended()
    assert [(one["as"], one.get("signal")) for one in acts] == [
        ("connect", None), ("stdin", None), ("connect", None), ("stdin", None), ("kill", 23), ("kill", 9),
    ]  # fmt: skip
    assert {(one["exec"], one["pid"]) for one in acts} == {(begin_["event"]["id"], pid)}
    assert (end["type"], end["signal"]) == ("machine.exit", signal.SIGKILL)
    assert verified(places.log(ID))


async def test_a_terminal_s_size_by_another_client_is_on_the_log_before_it_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path):
        sizes = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
        own, pid = await begun(shell(sizes, tty=Size(24, 80)))
        await own.resize(25, 80)
        other, _ = await begun(Attach(pid))
        for rows in range(30, 60):
            await other.resize(rows, 100)
        said = bytearray()
        async with asyncio.timeout(20):
            async for output in other:
                said += output.content if isinstance(output, Output) else b""
                if b"59 100" in said:
                    break
        third, _ = await begun(Attach(pid))
        with monkeypatch.context() as patch:
            patch.setattr(evidence, "LEFT", 1 << 62)
            await third.resize(99, 99)
            with pytest.raises(NoRoomError, match="is full"):
                await rest(third)
        await own.resize(24, 80)
        async with asyncio.timeout(20):
            async for output in other:
                said += output.content if isinstance(output, Output) else b""
                if b"24 80" in said:
                    break
        assert b"99 99" not in said
        await own.signal(signal.SIGKILL)
        for operation in (own, other):
            await rest(operation)
    acts = [one for one in attended() if one["type"] == "machine.attended"]
    assert [(one["as"], one.get("rows"), one.get("columns")) for one in acts] == [
        ("connect", None, None), ("resize", 30, 100), ("connect", None, None),
    ]  # fmt: skip


async def test_its_own_client_has_no_entries_but_the_command(tmp_path: Path) -> None:
    """The control: what is asked of it at its start is in `machine.exec`."""
    async with standing(tmp_path):
        own, _ = await begun(shell("read a; exec sleep 60", stdin=True))
        await own.write(b"x\n")
        await own.signal(signal.SIGTERM)
        await rest(own)
    assert [one["type"] for one in attended()] == ["machine.exec", "machine.exit"]


async def test_without_room_for_the_entry_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    async with standing(tmp_path):
        own, pid = await begun(shell(f"read a; touch {mark}; read b; exit 3", stdin=True))
        for act in ("input", "end", "signal"):
            other, _ = await begun(Attach(pid))
            with monkeypatch.context() as patch:
                patch.setattr(evidence, "LEFT", 1 << 62)
                if act == "input":
                    await other.write(b"x\n")
                elif act == "end":
                    await other.end_input()
                else:
                    await other.signal(signal.SIGKILL)
                with pytest.raises(NoRoomError, match="is full"):
                    await rest(other)
                with pytest.raises(NoRoomError, match="is full"):
                    await begun(Attach(pid))
        await asyncio.sleep(0.3)
        assert not mark.exists()
        assert [one.pid for one in await listed()] == [pid]
        # There is room again: the same has effect.
        other, _ = await begun(Attach(pid))
        await other.write(b"x\ny\n")
        _, ended = await rest(other)
        assert ended is not None
        assert ended.code == 3
        assert mark.exists()
        await own.close()
    assert [one["as"] for one in attended()[1:-1]] == [*["connect"] * 4, "stdin"]


async def test_a_recorder_that_has_gone_lets_nobody_attend(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        own, pid = await begun(shell("exec sleep 60", stdin=True))
        machine.evidence._process.kill()
        await machine.evidence._process.wait()
        with pytest.raises(MachineError, match="cannot be recorded"):
            await begun(Attach(pid))
        assert [one.pid for one in await listed()] == [pid]
        await own.close()


async def test_who_lets_go_is_told(tmp_path: Path) -> None:
    async with standing(tmp_path):
        own, pid = await begun(shell("exec sleep 60"))
        await own.detach()
        assert [said async for said in own] == [Done()]
        await own.close()
        other, _ = await begun(Attach(pid))
        await other.signal(signal.SIGKILL)
        await rest(other)
