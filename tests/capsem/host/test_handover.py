"""Messages and descriptors between two processes; here between two ends in one."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from capsem.errors import WireError
from capsem.host.handover import DESCRIPTORS, Handover
from capsem.wire.frame import Data, Message
from capsem.wire.frame import encode as encode_frame

pytestmark = pytest.mark.asyncio


class End:
    """One end, and what it heard."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.handover = Handover(
            sock, on_message=lambda message: self.heard.put_nowait(message.body), on_end=self.ended.set_result
        )
        self.handover.start()

    async def next(self) -> bytes:
        return await asyncio.wait_for(self.heard.get(), 5)


def message(text: bytes) -> bytes:
    return encode_frame(Message(text))


async def test_descriptors_come_in_the_order_of_their_messages() -> None:
    left, right = map(End, socket.socketpair())
    numbers = []
    for name in (b"one", b"two"):
        number = os.memfd_create("made")
        os.write(number, name)
        numbers.append(number)
    for number in numbers:
        left.handover.send(message(b"{}"), [number])
    for name in (b"one", b"two"):
        assert await right.next() == b"{}"
        number = right.handover.take()
        assert os.pread(number, 10, 0) == name
        os.close(number)
    with pytest.raises(WireError, match="without its descriptor"):
        right.handover.take()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(numbers[0])  # it is the other side's now
    left.handover.close("done")
    assert await asyncio.wait_for(right.ended, 5) == "the other side has hung up"


async def test_what_nobody_takes_is_closed() -> None:
    left, right = map(End, socket.socketpair())
    outlet, inlet = os.pipe()
    left.handover.send(message(b"{}"), [inlet])
    await right.next()
    right.handover.close("enough")
    assert os.read(outlet, 1) == b""  # every copy of the other end is closed
    os.close(outlet)
    left.handover.close("done")


async def test_a_flood_of_descriptors_ends_it() -> None:
    ours, theirs = socket.socketpair()
    end = End(ours)
    for _ in range(DESCRIPTORS + 1):
        socket.send_fds(theirs, [message(b"{}")], [theirs.fileno()])
    assert await asyncio.wait_for(end.ended, 5) == "more descriptors than there are messages for them"
    theirs.close()


@pytest.mark.parametrize(
    ("data", "reason"), [(encode_frame(Data(1, b"x")), "no message"), (b"\0\0\0\0", "frame of 0 bytes")]
)
async def test_what_is_no_message_ends_it(data: bytes, reason: str) -> None:
    ours, theirs = socket.socketpair()
    end = End(ours)
    theirs.sendall(data)
    assert reason in await asyncio.wait_for(end.ended, 5)
    theirs.close()


async def test_one_that_pauses_makes_the_other_wait_and_loses_nothing() -> None:
    left, right = map(End, socket.socketpair())
    right.handover.pause()
    count = 40
    for _ in range(count):
        left.handover.send(message(b"x" * 100_000))
    await asyncio.sleep(0)
    assert left.handover.crowded
    right.handover.resume()
    await asyncio.wait_for(left.handover.room(), 5)
    for _ in range(count):
        assert len(await right.next()) == 100_000
    for end in (left, right):
        end.handover.close("done")


async def test_one_that_does_not_read_is_let_go() -> None:
    ours, theirs = socket.socketpair()
    end = End(ours)
    for _ in range(80):
        end.handover.send(message(b"x" * 500_000))
    assert await end.ended == "the other side does not read"
    theirs.close()
