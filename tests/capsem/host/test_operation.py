from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from capsem.errors import MachineError, NotFoundError, RefusedError, UsageError
from capsem.host.link import Link
from capsem.host.operation import Output, answer, ask, begin, raised, read_file, told, write_file
from capsem.wire.frame import Credit, Data, End, Message, Reset
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import (
    ERRORS,
    INPUT,
    OUTPUT,
    WINDOW,
    Done,
    Exec,
    Exited,
    Failed,
    File,
    Info,
    MonitorMessage,
    Result,
    Started,
    Stop,
    encode,
)

pytestmark = pytest.mark.asyncio
Script = Callable[[Link], Awaitable[None]]
ENDED = Exited(0, None, False, 1, 2)


@contextlib.asynccontextmanager
async def monitor(path: Path, script: Script) -> AsyncIterator[Path]:
    """Another side that says what the test wants, in the documented form or not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        assert isinstance(await link.receive(), Message)
        await script(link)
        await link.close()

    async with await asyncio.start_unix_server(serve, path):
        yield path


def says(*sentences: MonitorMessage | bytes) -> Script:
    async def script(link: Link) -> None:
        for one in sentences:
            await link.send(one if isinstance(one, bytes) else encode(one))

    return script


async def test_a_command_from_start_to_end(tmp_path: Path) -> None:
    script = says(
        Started(7), encode_frame(Data(OUTPUT, b"out")), encode_frame(Data(ERRORS, b"err")), ENDED,
    )  # fmt: skip
    async with monitor(tmp_path / "s", script) as path:
        operation = await begin(path, Exec(argv=("x",)))
        assert [said async for said in operation] == [
            Started(7), Output(b"out"), Output(b"err", errors=True), ENDED,
        ]  # fmt: skip
        assert operation.over
        await operation.write(b"too late, and no wait")
        await operation.close()


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        (Failed("RefusedError", "m", "n"), RefusedError),
        (Failed("NotFoundError", "m", "n", "ENOENT"), NotFoundError),
        (Failed("SystemExit", "m", "n"), MachineError),
        (Failed("Fault", "m", "n"), MachineError),
        (Failed("annotations", "m", "n"), MachineError),
    ],
)
async def test_what_went_wrong_comes_as_the_error_it_was_and_as_no_other_thing(
    tmp_path: Path, failed: Failed, kind: type[Exception]
) -> None:
    async with monitor(tmp_path / "s", says(failed)) as path:
        with pytest.raises(MachineError if kind is MachineError else kind) as caught:
            await ask(path, Stop())
    assert type(caught.value) is kind
    assert told(raised(failed)).message == "m"


async def test_an_answer_is_of_the_one_kind_that_was_asked_for(tmp_path: Path) -> None:
    async with monitor(tmp_path / "right", says(Result({"size": 1}))) as path:
        assert (await answer(path, File("stat", "/x"), Result, "say what it is")).value == {"size": 1}
    async with monitor(tmp_path / "other", says(Done())) as path:
        with pytest.raises(MachineError) as caught:
            await answer(path, File("stat", "/x"), Result, "say what it is")
    assert caught.value.message == "the monitor did not say what it is"
    assert caught.value.next_step == "are both sides of one version?"
    async with monitor(tmp_path / "not", says(Failed("NotFoundError", "m", "n"))) as path:
        with pytest.raises(NotFoundError):
            await answer(path, File("stat", "/x"), Result, "say what it is")


async def test_a_monitor_that_goes_or_lies_is_an_error(tmp_path: Path) -> None:
    for name, script in {
        "gone": says(),
        "lies": says(encode_frame(Reset(1))),
        "bad": says(b"\xff" * 9),
    }.items():
        async with monitor(tmp_path / name, script) as path:
            with pytest.raises(Exception, match=r"gone|does not send|bytes") as caught:
                await ask(path, Info())
            assert caught.value.next_step  # type: ignore[attr-defined]


async def test_input_waits_for_room(tmp_path: Path) -> None:
    taken = bytearray()
    most = 0

    async def script(link: Link) -> None:
        nonlocal most
        owed = 0
        while True:
            frame = await link.receive()
            if isinstance(frame, End):
                await link.send(encode(Result({"size": len(taken)})))
                return
            assert isinstance(frame, Data)
            assert frame.stream == INPUT
            taken.extend(frame.content)
            owed += len(frame.content)
            most = max(most, owed)
            if owed == WINDOW:
                await link.send(encode_frame(Credit(INPUT, owed)))
                owed = 0

    content = bytes(range(256)) * (WINDOW // 64)

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    async with monitor(tmp_path / "s", script) as path:
        assert await write_file(path, File("write", "/x"), pieces()) == {"size": len(content)}
    assert bytes(taken) == content
    assert most <= WINDOW


async def test_a_file_is_read_whole(tmp_path: Path) -> None:
    script = says(encode_frame(Data(OUTPUT, b"a")), encode_frame(Data(OUTPUT, b"b")), Result({"size": 2}))
    async with monitor(tmp_path / "s", script) as path:
        assert await read_file(path, File("read", "/x")) == b"ab"
        with pytest.raises(MachineError, match="/x has more than the 1 bytes"):
            await read_file(path, File("read", "/x"), limit=1)


async def test_too_much_at_once_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with monitor(tmp_path / "s", says(Done())) as path:
        with pytest.raises(UsageError, match="too much"):
            await begin(path, Exec(argv=("x" * (1 << 20),)))
