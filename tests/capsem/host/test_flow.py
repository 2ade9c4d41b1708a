"""One stream under its window: whatever the order, never more than the window is held or on the way."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsem.host.flow import SMALL, Incoming, Outgoing, StreamResetError
from capsem.wire.frame import Credit, Data, End, Frame, FrameError

WINDOW = 100


@settings(max_examples=60)
@given(st.lists(st.integers(0, 60), max_size=40))
def test_the_window_holds_whatever_is_read(steps: list[int]) -> None:
    """0 reads; another number is what the guest sends, if it may."""

    async def run() -> None:
        sent: list[Frame] = []
        flow = Incoming(1, WINDOW, sent.append)
        allowance, expected, found = WINDOW, b"", b""
        for size in steps:
            if size == 0:
                if len(found) < len(expected):
                    found += await flow.read()
            elif size <= allowance:
                allowance -= size
                expected += bytes([size]) * size
                flow.feed(bytes([size]) * size)
            else:
                with pytest.raises(FrameError, match="window"):
                    Incoming(2, size - 1, sent.append).feed(bytes(size))
            allowance += sum(frame.amount for frame in sent if isinstance(frame, Credit))
            sent.clear()
            assert allowance <= WINDOW
        flow.finish()
        assert found + await flow.read_all(1 << 20) == expected

    asyncio.run(run())


def test_more_than_the_window_is_refused() -> None:
    async def run() -> None:
        flow = Incoming(1, WINDOW, lambda _: None)
        flow.feed(bytes(WINDOW))
        with pytest.raises(FrameError, match="window"):
            flow.feed(b"x")
        flow = Incoming(1, WINDOW, lambda _: None)
        flow.finish()
        with pytest.raises(FrameError, match="after its end"):
            flow.feed(b"x")
        with pytest.raises(FrameError, match="second end"):
            flow.finish()

    asyncio.run(run())


def test_many_little_frames_wait_as_few_pieces() -> None:
    async def run() -> None:
        flow = Incoming(1, 1 << 17, lambda _: None)
        whole = bytes(range(256)) * 512
        for place in range(0, len(whole), 2):
            flow.feed(whole[place : place + 2])
        assert len(flow._chunks) <= 2 + 2 * len(whole) // SMALL
        flow.finish()
        assert await flow.read_all(1 << 17) == whole

    asyncio.run(run())


def test_an_error_comes_after_what_had_come() -> None:
    async def run() -> None:
        flow = Incoming(1, WINDOW, lambda _: None)
        flow.feed(b"said")
        flow.fail(StreamResetError("over"))
        assert await flow.read() == b"said"
        with pytest.raises(StreamResetError):
            await flow.read()
        whole = Incoming(1, WINDOW, lambda _: None)
        whole.feed(b"long")
        with pytest.raises(ValueError, match="more than 3"):
            await whole.read_all(3)

    asyncio.run(run())


@settings(max_examples=60)
@given(st.lists(st.integers(1, 250), min_size=1, max_size=8))
def test_a_writer_waits_for_credit(sizes: list[int]) -> None:
    async def run() -> None:
        sent: list[Frame] = []
        drained = asyncio.Event()
        drained.set()
        flow = Outgoing(1, WINDOW, sent.append, lambda: drained)
        content = b"".join(bytes([n]) * size for n, size in enumerate(sizes))
        writer = asyncio.create_task(flow.write(content))
        taken = b""
        while not writer.done():
            await asyncio.sleep(0)
            new = b"".join(frame.content for frame in sent if isinstance(frame, Data))
            sent.clear()
            assert len(new) <= WINDOW
            taken += new
            if new:
                flow.credit(len(new))
        await writer
        taken += b"".join(frame.content for frame in sent if isinstance(frame, Data))
        assert taken == content
        flow.end()
        flow.end()
        assert sent[-1] == End(1)
        with pytest.raises(ValueError, match="ended"):
            await flow.write(b"x")

    asyncio.run(run())


@pytest.mark.parametrize("room", [0, WINDOW], ids=["without room", "with room"])
def test_nothing_is_sent_after_an_end_that_somebody_else_said(room: int) -> None:
    async def run() -> None:
        sent: list[Frame] = []
        drained = asyncio.Event()
        drained.set()
        flow = Outgoing(1, WINDOW, sent.append, lambda: drained)
        writers = [asyncio.create_task(flow.write(bytes(WINDOW))) for _ in range(3)]
        await asyncio.sleep(0)
        flow.end()
        if room:
            flow.credit(room)
        async with asyncio.timeout(5):
            told = await asyncio.gather(*writers, return_exceptions=True)
        assert [str(one) for one in told] == ["None", *["the stream was ended meanwhile"] * 2]
        assert [type(frame) for frame in sent] == [Data, End]

    asyncio.run(run())


def test_credit_from_nowhere_is_refused() -> None:
    async def run() -> None:
        flow = Outgoing(1, WINDOW, lambda _: None, asyncio.Event)
        with pytest.raises(FrameError, match="credit"):
            flow.credit(1)

    asyncio.run(run())
