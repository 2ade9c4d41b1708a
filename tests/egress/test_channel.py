"""The session socket's end: descriptors with their frames, a peer that does not read, every way to end."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from capsule.egress import channel as module
from capsule.egress.channel import Channel
from capsule.egress.frames import Frame
from tests.egress.test_frames import SESSION, framed

pytestmark = pytest.mark.asyncio


class Ends:
    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.frames: list[tuple[Frame, list[int]]] = []
        self.reasons: list[str] = []
        self.channel = Channel(
            theirs,
            on_frame=lambda frame, numbers: self.frames.append((frame, numbers)),
            on_end=self.reasons.append,
        )
        self.channel.start()

    def send(self, data: bytes, *descriptors: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())]
        self.ours.sendmsg([data], rights if descriptors else [])

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)


async def test_descriptors_come_with_their_frame(tmp_path: Path) -> None:
    ends = Ends()
    (tmp_path / "file").write_text("hello")
    number = os.open(tmp_path / "file", os.O_RDONLY)
    data = framed(SESSION)
    ends.send(data[:10], number)
    os.close(number)
    ends.send(data[10:])
    await ends.until(lambda: ends.frames)
    ((_, numbers),) = ends.frames
    assert os.read(numbers[0], 9) == b"hello"
    assert not os.get_inheritable(numbers[0])
    os.close(numbers[0])
    ends.ours.close()
    await ends.until(lambda: ends.reasons)
    assert ends.reasons == ["the run is over"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\0\0\0\x02[]", "not a frame"), (b"\0\0\1\0{", "cut off in a frame"), (b"", "the run is over")],
)
async def test_ends(data: bytes, reason: str) -> None:
    ends = Ends()
    if data:
        ends.send(data)
    ends.ours.shutdown(socket.SHUT_WR)
    await ends.until(lambda: ends.reasons)
    assert reason in ends.reasons[0]
    ends.channel.close("again")
    assert len(ends.reasons) == 1
    ends.ours.close()


async def test_what_was_sent_arrives_in_order_and_room_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    monkeypatch.setattr(module, "CROWDED", 100_000)
    for number in range(400):
        ends.channel.send({"n": number, "text": "x" * 5000})
    await asyncio.sleep(0.05)
    assert ends.channel.crowded
    got = b""
    loop = asyncio.get_running_loop()
    while len(got) < 400 * 5000 or ends.channel.crowded:
        got += await loop.sock_recv(ends.ours, 1 << 20)
    await asyncio.wait_for(ends.channel.room(), 5)
    numbers, at = [], 0
    while at < len(got):
        size = int.from_bytes(got[at : at + 4], "big")
        numbers.append(json.loads(got[at + 4 : at + 4 + size])["n"])
        at += 4 + size
    assert numbers == list(range(400))
    ends.ours.close()
    await ends.until(lambda: ends.reasons)


async def test_a_supervisor_that_never_reads_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    monkeypatch.setattr(module, "LIMIT", 1 << 20)
    for _ in range(400):
        ends.channel.send({"text": "x" * 5000})
        await asyncio.sleep(0)
    assert ends.reasons == ["the supervisor does not read what is recorded"]
    ends.ours.close()


async def test_what_is_still_told_after_the_last_word_arrives() -> None:
    ends = Ends()
    ends.channel._on_last = lambda: ends.channel.send({"n": 1})
    ends.ours.shutdown(socket.SHUT_WR)
    got = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ends.ours, 100), 5)
    assert json.loads(got[4:]) == {"n": 1}
    await ends.channel.drained(1)
    assert ends.reasons == []
    ends.channel.close("the run is over")
    assert ends.reasons == ["the run is over"]
    ends.ours.close()
