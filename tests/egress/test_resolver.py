"""Both transports: the answer leaves from the address that was asked."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest

from capsule.egress import resolver as module
from capsule.egress.resolver import Resolver

pytestmark = pytest.mark.asyncio


def of_one_port() -> tuple[socket.socket, socket.socket, int]:
    """Both transports on one port, which a port that is free for one need not be for the other: a connection has it."""
    for _ in range(100):
        tcp = socket.create_server(("0.0.0.0", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        port = tcp.getsockname()[1]
        try:
            udp.bind(("0.0.0.0", port))
        except OSError as error:
            udp.close()
            tcp.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return udp, tcp, port
    raise AssertionError("no port is free for both")


def start(answer: Callable[[bytes, str, tuple[str, int]], bytes | None]) -> tuple[Resolver, int]:
    udp, tcp, port = of_one_port()
    found = Resolver(udp, tcp, answer)
    found.start()
    return found, port


def upper(data: bytes, transport: str, source: tuple[str, int]) -> bytes | None:
    assert source[0] == "127.0.0.1"
    return None if data == b"silence" else transport.encode() + b":" + data.upper()


async def test_udp_answers_from_the_address_asked() -> None:
    found, port = start(upper)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        for address in ("127.0.0.1", "127.8.7.6"):
            sock.sendto(b"silence", (address, port))
            sock.sendto(bytes(5000), (address, port))
            sock.sendto(b"abc", (address, port))
            data, source = await asyncio.wait_for(loop.sock_recvfrom(sock, 512), 5)
            assert data == b"udp:ABC"
            assert source == (address, port)
    found.close()


async def test_tcp_answers_several_and_ends_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.2)
    found, port = start(upper)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for question in (b"abc", b"def"):
        framed = len(question).to_bytes(2, "big") + question
        writer.write(framed[:1])
        await asyncio.sleep(0.01)
        writer.write(framed[1:])
        size = int.from_bytes(await reader.readexactly(2), "big")
        assert await reader.readexactly(size) == b"tcp:" + question.upper()
    assert await asyncio.wait_for(reader.read(), 5) == b""  # silent for too long
    writer.close()
    for wrong in (b"\xff\xff", b"\0\7silence"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(wrong)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    found.close()


async def test_no_more_connections_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    found, port = start(upper)
    kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    for _, further in [*kept, (reader, writer)]:
        further.close()
    found.close()
