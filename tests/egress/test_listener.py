"""Connections with their original destination, and who made them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from capsule.egress import listener as module
from capsule.egress.frames import Flow
from capsule.egress.listener import Flows, Listener

pytestmark = pytest.mark.asyncio
HERE, THERE = ("127.0.0.1", 5), ("127.0.0.9", 443)


def notice(
    source: str = "127.0.0.1:5", target: str = "127.0.0.9:443", program: str = "/usr/bin/curl"
) -> Flow:
    return Flow(source, target, 7, program, ("curl",))


async def test_the_original_destination_is_seen() -> None:
    sock = socket.create_server(("0.0.0.0", 0))
    port = sock.getsockname()[1]
    accepted: asyncio.Queue[tuple[socket.socket, tuple[str, int], tuple[str, int]]] = asyncio.Queue()
    found = Listener(sock, lambda *what: accepted.put_nowait(what))
    found.start()
    for address in ("127.0.0.1", "127.9.9.9"):
        with socket.create_connection((address, port)) as client:
            inside, source, target = await asyncio.wait_for(accepted.get(), 5)
            assert target == (address, port)
            assert source == client.getsockname()
            assert inside.getblocking() is False
            inside.close()
    found.close()
    found.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_a_notice_before_or_after_the_connection() -> None:
    flows = Flows()
    flows.add(notice())
    assert (await flows.expect(HERE, THERE)).program == "/usr/bin/curl"
    late = flows.expect(HERE, THERE)
    flows.add(notice(program="/bin/b"))
    assert (await late).program == "/bin/b"


async def test_no_notice_in_time() -> None:
    flows = Flows()
    future = flows.expect(HERE, THERE)
    flows.add(notice(target="127.0.0.9:80"))
    await asyncio.wait([future], timeout=2)
    assert future.cancelled()


async def test_an_old_notice_is_of_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    flows = Flows()
    flows.add(notice(program="/bin/old"))
    monkeypatch.setattr(module, "FRESH", -1.0)
    future = flows.expect(HERE, THERE)
    assert not future.done()
    flows.add(notice(program="/bin/new"))
    assert (await future).program == "/bin/new"
