"""A decision that takes long, or a reader that is slow, holds the sender back; nobody keeps what it sends."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from capsule.egress.interception import Wire
from capsule.egress.layers import inspected
from tests.egress.test_interception import Stage

pytestmark = pytest.mark.asyncio
HEAD = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 50000000\r\n\r\n"


async def push(sock: socket.socket, most: int) -> int:
    """Sends until nothing is taken for a while; how much was."""
    sent = 0
    idle = 0
    while idle < 40 and sent < most:
        try:
            sent += sock.send(bytes(min(1 << 16, most - sent)))
            idle = 0
        except BlockingIOError:
            idle += 1
            await asyncio.sleep(0.01)
    return sent


async def test_while_a_decision_is_awaited() -> None:
    gate = asyncio.Event()
    stage = Stage(lambda hook: gate.wait() if type(hook).__name__ == "HttpRequestHeadersHook" else None)  # type: ignore[arg-type, return-value]
    wire = Wire(stage.driver, stage.driver.context.client)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: wire, stage._inside)
    stage.driver.start(wire, inspected(stage.driver.context, tls=False), HEAD)
    taken = await push(stage.program, 50_000_000)
    assert taken < 8_000_000
    assert wire.paused
    gate.set()
    received = 0
    while received < 50_000_000:
        part = await stage.hear(stage.server)
        assert part
        received += len(part)
        if taken < 50_000_000:
            with contextlib.suppress(BlockingIOError):
                taken += stage.program.send(bytes(min(1 << 16, 50_000_000 - taken)))
    stage.close()
