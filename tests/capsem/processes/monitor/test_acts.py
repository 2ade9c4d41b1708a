"""Commands and files through the door of a monitor, done by the real agent, seen on the real log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from capsem.errors import (
    MachineError,
    NoSuchCommandError,
    NotExecutableError,
    NotFoundError,
    RefusedError,
    UsageError,
    WireError,
)
from capsem.host import places
from capsem.host.link import connect
from capsem.host.operation import Output, ask, begin, read_file, write_file
from capsem.wire.frame import DATA_LIMIT, MESSAGE_LIMIT, Data, Message, Reset
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import (
    INPUT,
    WINDOW,
    Exec,
    Exited,
    Failed,
    File,
    Result,
    Size,
    Started,
    decode_monitor,
    encode,
)
from tests.capsem.processes.monitor.standing import ID, USER, shell, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def ran(asked: Exec, given: bytes | None = None) -> tuple[bytes, bytes, Exited]:
    operation = await begin(places.monitor_socket(ID), asked)
    out, err = bytearray(), bytearray()

    async def feed() -> None:
        if given is not None:
            await operation.write(given)
            await operation.end_input()

    feeding = asyncio.create_task(feed())
    try:
        async for said in operation:
            if isinstance(said, Output):
                (err if said.errors else out).extend(said.content)
            elif isinstance(said, Exited):
                return bytes(out), bytes(err), said
        raise AssertionError
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await operation.close()


def entries() -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in places.log(ID).read_text().splitlines()]
    return [line for line in lines if str(line.get("type", "")).startswith("machine.")]


async def test_streams_exit_code_and_environment(tmp_path: Path) -> None:
    async with standing(tmp_path):
        out, err, ended = await ran(
            shell("cat; echo $FROM_SPEC $MORE; echo e >&2; exit 7", stdin=True, env={"MORE": "1"}), b"in\n"
        )
    assert (out, err, ended.code, ended.signal) == (b"in\nyes 1\n", b"e\n", 7, None)
    kinds = [(entry["type"], entry.get("code")) for entry in entries()]
    assert kinds == [("machine.exec", None), ("machine.exit", 7)]
    assert entries()[0]["decision"] == {"action": "allow", "by": "default"}


async def test_much_output_arrives_whole_however_slowly_it_is_read(tmp_path: Path) -> None:
    async with standing(tmp_path):
        operation = await begin(places.monitor_socket(ID), shell("head -c 5000000 /dev/zero"))
        await asyncio.sleep(0.3)
        total = 0
        async for said in operation:
            total += len(said.content) if isinstance(said, Output) else 0
        assert total == 5_000_000
        await operation.close()


async def test_much_input_arrives_whole(tmp_path: Path) -> None:
    async with standing(tmp_path):
        out, _, _ = await ran(shell("wc -c", stdin=True), b"x" * 3_000_000)
    assert out.strip() == b"3000000"


async def test_signals_timeouts_and_hanging_up_end_a_command(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        operation = await begin(places.monitor_socket(ID), shell("exec sleep 60"))
        async for said in operation:
            if isinstance(said, Started):
                await operation.signal(signal.SIGTERM)
            elif isinstance(said, Exited):
                assert said.signal == signal.SIGTERM
        await operation.close()
        _, _, ended = await ran(shell("exec sleep 60", timeout_ms=200))
        assert ended.timed_out
        operation = await begin(places.monitor_socket(ID), shell("exec sleep 60"))
        async for said in operation:
            assert isinstance(said, Started)
            pid = said.pid
            break
        await operation.close()
        async with asyncio.timeout(5):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.01)
            while machine.jobs:
                await asyncio.sleep(0.01)


async def test_a_child_that_keeps_the_output_open_holds_nobody_up(tmp_path: Path) -> None:
    async with standing(tmp_path):
        async with asyncio.timeout(5):
            out, _, ended = await ran(shell("sleep 20 & echo done"))
        assert (out, ended.code) == (b"done\n", 0)


async def test_a_terminal(tmp_path: Path) -> None:
    async with standing(tmp_path):
        out, _, ended = await ran(shell("stty size; tty | cut -c1-8", tty=Size(33, 77), stdin=True))
    assert (out, ended.code) == (b"33 77\r\n/dev/pts\r\n", 0)


async def test_what_cannot_start_is_told_as_a_shell_tells_it(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    async with standing(tmp_path):
        with pytest.raises(NoSuchCommandError) as missing:
            await ran(Exec(argv=("no-such-program",), user=USER))
        with pytest.raises(NotExecutableError) as refused:
            await ran(Exec(argv=(str(plain),), user=USER))
    assert (missing.value.exit_code, refused.value.exit_code) == (127, 126)
    assert [entry.get("errno") for entry in entries() if entry["type"] == "machine.exit"] == [
        "ENOENT",
        "EACCES",
    ]


async def test_what_is_too_long_with_the_machines_own_variables_is_refused(tmp_path: Path) -> None:
    long = Exec(argv=("true",), user=USER, cwd="/")
    room = MESSAGE_LIMIT - len(encode(long))
    async with standing(tmp_path):
        with pytest.raises(UsageError, match="too much at once"):
            await ran(Exec(argv=("true", "x" * (room - 10)), user=USER, cwd="/"))
        _, _, ended = await ran(long)
    assert ended.code == 0, "the next one runs"
    assert [entry["errno"] for entry in entries() if "errno" in entry] == ["E2BIG"]


async def test_files_in_and_out(tmp_path: Path) -> None:
    content = os.urandom(1_500_000)

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    async with standing(tmp_path):
        path = str(tmp_path / "new")
        value = await write_file(
            places.monitor_socket(ID), File("write", path, mode=0o640, user=USER), pieces()
        )
        assert value["size"] == len(content)
        assert Path(path).read_bytes() == content
        assert Path(path).stat().st_mode & 0o777 == 0o640
        assert await read_file(places.monitor_socket(ID), File("read", path, user=USER)) == content
        found = await ask(places.monitor_socket(ID), File("stat", path, user=USER))
        assert isinstance(found, Result)
        assert found.value["size"] == len(content)
        with pytest.raises(NotFoundError):
            await read_file(places.monitor_socket(ID), File("read", path + ".none", user=USER))
    assert [entry["file"]["operation"] for entry in entries()] == ["write", "read", "read", "read"]


@pytest.mark.parametrize("how", ["hang up", "reset", "nonsense", "unreadable"])
async def test_content_that_breaks_off_leaves_the_file_as_it_was(tmp_path: Path, how: str) -> None:
    path = tmp_path / "kept"
    path.write_text("as it was")
    asked = File("write", str(path), mode=0o600, user=USER)

    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        raise OSError("the disk of the host")

    async with standing(tmp_path) as machine:
        for _ in range(8):
            if how == "unreadable":
                with pytest.raises(OSError, match="the disk of the host"):
                    await write_file(places.monitor_socket(ID), asked, half())
            else:
                link = await connect(places.monitor_socket(ID))
                await link.send(encode(asked) + encode_frame(Data(INPUT, b"half")))
                if how == "reset":
                    await link.send(encode_frame(Reset(INPUT)))
                elif how == "nonsense":
                    await link.send(b"\xff" * 8)
                await link.close()
            async with asyncio.timeout(5):
                while machine.jobs:
                    await asyncio.sleep(0.005)
            assert path.read_text() == "as it was"
            assert [name for name in os.listdir(tmp_path) if "kept" in name] == ["kept"]
        await write_file(places.monitor_socket(ID), asked, whole())
        assert path.read_text() == "whole"


async def whole() -> AsyncIterator[bytes]:
    yield b"whole"


RULES = """
version: 1
owner: user
rules:
  - id: no-push
    on: [process]
    when: 'process.argv.exists(word, word.contains("push"))'
    action: block
    reason: nothing leaves this machine
    priority: 10
  - id: shells
    on: [process]
    when: 'process.name == "sh"'
    action: allow
    priority: 20
"""


async def test_rules_decide_before_the_act_and_what_none_allows_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "gone"
    async with standing(tmp_path, RULES):
        with pytest.raises(RefusedError, match="nothing leaves this machine") as blocked:
            await ran(shell(f"echo push > {marker}"))
        assert blocked.value.exit_code == 126
        with pytest.raises(RefusedError, match="no rule allows it") as unruled:
            await ran(Exec(argv=("/bin/true",), user=USER))
        assert "add it to rules.yaml under rules:" in unruled.value.next_step
        assert """when: 'process.argv == ["/bin/true"]', action: allow}""" in unruled.value.next_step
        with pytest.raises(RefusedError):
            await read_file(places.monitor_socket(ID), File("read", "/etc/hostname", user=USER))
        out, _, _ = await ran(shell(f"test -e {marker} || echo not there"))
    assert out == b"not there\n", "the positive control ran, the refused one did not"
    decisions = [entry["decision"] for entry in entries() if "decision" in entry]
    assert [one["action"] for one in decisions] == ["block", "block", "block", "allow"]
    assert decisions[0]["rule"]["id"] == "no-push"


async def test_the_log_is_whole_and_signed(tmp_path: Path, capsule_binary: Path) -> None:
    async with standing(tmp_path):
        await ran(shell("true"))
    done = subprocess.run(
        [capsule_binary, "verify", places.log(ID)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done


async def test_nothing_runs_once_it_cannot_be_recorded(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    async with standing(tmp_path) as machine:
        machine.evidence._process.kill()
        await machine.evidence._process.wait()
        with pytest.raises(Exception, match="cannot be recorded"):
            await ran(shell(f"touch {marker}"))
    assert not marker.exists()


async def test_a_client_that_sends_more_than_it_may_loses_its_command(tmp_path: Path) -> None:
    async with standing(tmp_path) as machine:
        link = await connect(places.monitor_socket(ID))
        await link.send(encode(shell("exec sleep 60", stdin=True)))
        started = await link.receive()
        assert isinstance(started, Message)
        assert machine.jobs == 1
        for _ in range(12 * WINDOW // DATA_LIMIT):
            await link.send(encode_frame(Data(INPUT, b"x" * DATA_LIMIT)))
        async with asyncio.timeout(5):
            while machine.jobs:
                await asyncio.sleep(0.01)
        await link.close()
    assert entries()[-1]["signal"] == signal.SIGKILL


async def test_one_operation_a_connection(tmp_path: Path) -> None:
    async with standing(tmp_path):
        for first in (encode_frame(Data(1, b"x")), encode(Started(1)), encode_frame(Message(b"{}"))):
            link = await connect(places.monitor_socket(ID))
            await link.send(first)
            frame = await link.receive()
            assert isinstance(frame, Message)
            said = decode_monitor(frame)
            assert isinstance(said, Failed)
            assert said.kind == WireError.__name__
            await link.close()


def agent_pid() -> int:
    """Of the agent that this process started."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    (pid,) = [int(one) for one in children if b"capsem-agent" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return pid


async def test_a_machine_that_stands_still_keeps_no_client_past_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path) as machine:
        _, _, ended = await ran(shell("exit 3", timeout_ms=60_000))
        assert ended.code == 3, "it answers"
        monkeypatch.setattr("capsem.processes.monitor.attending.KILL_SECONDS", 0.5)
        monkeypatch.setattr("capsem.processes.monitor.acts._ANSWER_SECONDS", 1.0)
        operation = await begin(places.monitor_socket(ID), shell("exec sleep 60"))
        assert isinstance(await anext(aiter(operation)), Started)
        running = asyncio.create_task(ran(shell("exec sleep 60", timeout_ms=2000)))
        async with asyncio.timeout(30):
            while machine.jobs < 2:
                await asyncio.sleep(0.01)
            # Whether the second has begun or not: nothing is said of it from here on.
            os.kill(agent_pid(), signal.SIGSTOP)
            with pytest.raises(MachineError, match="does not"):
                await running
            with pytest.raises(MachineError, match="does not answer"):
                await ran(shell("true"))
            await operation.close()
            while machine.jobs:
                await asyncio.sleep(0.01)
    assert [entry["errno"] for entry in entries() if "errno" in entry] == ["ETIMEDOUT"] * 3
