"""Answers to what was asked: the right kind, once, in order."""

from __future__ import annotations

import asyncio

import pytest

from capsem.host.jobs import GuestError, Request
from capsem.wire.frame import FrameError
from capsem.wire.guest import CONTROL, Exited, Failed, Pong, Result, Started

EXITED = Exited(1, 0, None, False, 0, 0)


def test_a_program_starts_and_ends() -> None:
    async def run() -> None:
        request = Request(1, CONTROL)
        assert not request.take(Started(1, 5))
        assert request.take(EXITED)
        assert request.started.result().pid == 5
        assert request.done.result() == EXITED

    asyncio.run(run())


def test_order_and_number_are_the_guests_to_keep() -> None:
    async def run() -> None:
        with pytest.raises(FrameError, match="before it started"):
            Request(1, CONTROL).take(EXITED)
        request = Request(1, CONTROL)
        request.take(Started(1, 5))
        with pytest.raises(FrameError, match="twice"):
            request.take(Started(1, 6))

    asyncio.run(run())


def test_a_failure_is_told_to_whoever_waits() -> None:
    async def run() -> None:
        request = Request(1, CONTROL)
        assert request.take(Failed(1, "ENOENT", "no such program"))
        with pytest.raises(GuestError, match="no such program") as caught:
            await request.started_or_done()
        assert caught.value.errno == "ENOENT"
        for answer in (Result(1, {}), Pong(1)):
            request = Request(1, CONTROL)
            assert request.take(answer)
            await request.started_or_done()

    asyncio.run(run())
