"""Bytes between two sockets: all of them, both ways, whatever order the ends end in."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct

import pytest

from capsule.egress.passthrough import pass_through

pytestmark = pytest.mark.asyncio


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


async def drain(sock: socket.socket) -> tuple[int, str]:
    loop, size, digest = asyncio.get_running_loop(), 0, hashlib.sha256()
    while part := await loop.sock_recv(sock, 1 << 16):
        size += len(part)
        digest.update(part)
    return size, digest.hexdigest()


async def test_everything_arrives_both_ways_with_half_closes() -> None:
    program, inside = pair()
    outside, server = pair()
    loop = asyncio.get_running_loop()
    before = len(os.listdir("/proc/self/fd"))
    passing = asyncio.create_task(pass_through(inside, outside, first=b"hello", idle=30))
    up, down = os.urandom(3_000_000), os.urandom(5_000_000)

    async def send(sock: socket.socket, data: bytes) -> None:
        await loop.sock_sendall(sock, data)
        sock.shutdown(socket.SHUT_WR)

    _, _, (sent, digest), (received, other) = await asyncio.gather(
        send(program, up), send(server, down), drain(server), drain(program)
    )
    assert (sent, digest) == (5 + len(up), hashlib.sha256(b"hello" + up).hexdigest())
    assert (received, other) == (len(down), hashlib.sha256(down).hexdigest())
    assert await passing == (5 + len(up), len(down), None)
    assert len(os.listdir("/proc/self/fd")) == before
    for sock in (program, inside, outside, server):
        sock.close()


async def test_an_answer_after_the_question_is_over() -> None:
    program, inside = pair()
    outside, server = pair()
    passing = asyncio.create_task(pass_through(inside, outside, first=b"", idle=30))
    program.shutdown(socket.SHUT_WR)
    assert await drain(server) == (0, hashlib.sha256().hexdigest())
    await asyncio.get_running_loop().sock_sendall(server, b"still here")
    server.close()
    assert (await drain(program))[0] == 10
    assert await passing == (0, 10, None)
    for sock in (program, inside, outside):
        sock.close()


async def test_a_reset_ends_both() -> None:
    program, inside = pair()
    outside, server = pair()
    passing = asyncio.create_task(pass_through(inside, outside, first=b"x", idle=30))
    await asyncio.sleep(0.05)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    sent, received, problem = await asyncio.wait_for(passing, 5)
    assert (sent, received) == (1, 0)
    assert problem == "Connection reset by peer"
    for sock in (program, inside, outside):
        sock.close()


async def test_silence_ends_it() -> None:
    program, inside = pair()
    outside, server = pair()
    assert await pass_through(inside, outside, first=b"", idle=0.1) == (0, 0, "nothing moved for 0 s")
    for sock in (program, inside, outside, server):
        sock.close()


async def test_a_slow_reader_holds_the_writer_back() -> None:
    program, inside = pair()
    outside, server = pair()
    passing = asyncio.create_task(pass_through(inside, outside, first=b"", idle=30))
    sent = 0
    for _ in range(2000):
        try:
            sent += program.send(bytes(1 << 16))
        except BlockingIOError:
            await asyncio.sleep(0.001)
    assert sent < 100_000_000
    program.close()
    assert (await drain(server))[0] == sent
    server.close()
    assert (await passing)[0] == sent
    for sock in (inside, outside):
        sock.close()


@pytest.mark.parametrize("room", [0, 3, 5, 70_000])
async def test_a_connection_is_cut_at_the_byte(room: int) -> None:
    program, inside = pair()
    outside, server = pair()
    left = room

    def spend(count: int) -> tuple[int, str | None]:
        nonlocal left
        fits = min(count, left)
        left -= fits
        return fits, None if fits == count else "it is used up"

    passing = asyncio.create_task(pass_through(inside, outside, first=b"hello", idle=30, spend=spend))
    await asyncio.get_running_loop().sock_sendall(program, b"x" * 200_000)
    assert await passing == (room, 0, "it is used up")
    inside.close()
    outside.close()
    assert (await drain(server))[0] == room
    program.close()
    server.close()
