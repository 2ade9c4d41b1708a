from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import link as links
from capsem.host import places
from capsem.host.link import Link, connect
from capsem.wire.frame import FrameError, Message
from capsem.wire.monitor import Info, Signal, encode

pytestmark = pytest.mark.asyncio


async def test_frames_arrive_whole_and_in_order(tmp_path: Path) -> None:
    got: list[object] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        while (frame := await link.receive()) is not None:
            got.append(frame)
        await link.close()
        over.set()

    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        link = await connect(tmp_path / "s")
        both = encode(Info()) + encode(Signal(2))
        for place in range(len(both)):
            await link.send(both[place : place + 1])
        await link.close()
        await asyncio.wait_for(over.wait(), 5)
    assert got == [Message(b'{"type":"info"}'), Message(b'{"type":"signal","number":2}')]


async def test_a_bad_frame_ends_it_and_a_dead_side_takes_nothing(tmp_path: Path) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\xff\xff\xff")
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        link = await connect(tmp_path / "s")
        with pytest.raises(FrameError):
            await link.receive()
        for _ in range(3):
            await link.send(encode(Info()))
        await link.close()
    with pytest.raises(MachineError, match="does not answer"):
        await connect(tmp_path / "nobody")


@pytest.mark.parametrize("pause", [None, 0.05])
async def test_hanging_up_waits_for_who_takes_what_was_sent_and_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float | None
) -> None:
    monkeypatch.setattr(links, "_PARTING_SECONDS", 0.5)
    size, got, hung_up = 1_000_000, bytearray(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        writer.write(bytes(size))
        await link.part()
        await link.close()
        hung_up.set()

    client = socket.socket(socket.AF_UNIX)

    def read(pause: float) -> None:
        while data := client.recv(16384):
            got.extend(data)
            time.sleep(pause)

    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        began = time.monotonic()
        client.connect(str(tmp_path / "s"))
        if pause is not None:
            reading = threading.Thread(target=read, args=(pause,))
            reading.start()
        async with asyncio.timeout(30):
            await hung_up.wait()
        took = time.monotonic() - began
        if pause is not None:
            await asyncio.to_thread(reading.join, 30)
            assert len(got) == size
            assert took > 1.5, "it is no slow reader"
        client.close()


async def test_why_nobody_listens_is_told_by_what_is_left_of_the_machine(capsem_home: Path) -> None:
    machine = "m-4d1337f1"
    directory, place = places.session(machine), places.monitor_socket(machine)
    place.parent.mkdir(parents=True)
    with pytest.raises(MachineError, match=f"^{machine} is gone"):
        await connect(place)
    directory.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:  # as a monitor that was killed leaves it
        left.bind(str(place))
    with pytest.raises(MachineError, match=f"^{machine} does not run") as stopped:
        await connect(place)
    assert stopped.value.next_step == f"start it: capsem start {machine}"
    places.suspended(directory).touch()
    with pytest.raises(MachineError, match=f"^{machine} is suspended") as suspended:
        await connect(place)
    assert suspended.value.next_step == f"go on with it: capsem resume {machine}"
    with pytest.raises(MachineError, match=r"does not answer at .*/other: No such file"):
        await connect(place.with_name("other"))
