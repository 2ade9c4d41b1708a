"""Requests of our own: what comes back, in pieces, too long, broken off, and again over one connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from capsule.egress.caller import HEAD, Caller, CallError, trusting
from tests.egress.certificates import make

pytestmark = pytest.mark.asyncio
Speaks = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def against(
    speaks: Speaks, trust: ssl.SSLContext | None = None, shows: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Caller, list[int]]]:
    """A caller, and who answers each of its connections."""
    made: list[int] = []
    tasks = []

    async def serve(sock: socket.socket) -> None:
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=shows)
        except OSError:
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await speaks(reader, writer)
            await writer.drain()
        finally:
            writer.close()

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        made.append(1)
        tasks.append(asyncio.create_task(serve(theirs)))
        return ours

    caller = Caller("a.example", 443 if trust else 80, connect=connect, trust=trust)
    async with asyncio.timeout(30):
        try:
            yield caller, made
        finally:
            caller.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.01)


def saying(*answers: bytes) -> Speaks:
    """Answers one request after another."""

    async def speaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head)
            length = next(
                (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b":0"
            )
            bodies.append(await reader.readexactly(int(length.partition(b":")[2])))
            writer.write(answer)
            await writer.drain()

    heads.clear()
    bodies.clear()
    return speaks


heads: list[bytes] = []
bodies: list[bytes] = []
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-A: b\r\nx-a: c\r\n\r\nok"


async def test_one_request_after_another_over_one_connection() -> None:
    early, chunked = (
        b"HTTP/1.1 103 Early\r\n\r\n",
        b"HTTP/1.1 201 Made\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
    )
    async with against(saying(OK, early + chunked, OK)) as (caller, made):
        for status, body in ((200, b"ok"), (201, b"ab"), (200, b"ok")):
            async with caller.asked("POST", "/x?y", {"x-b": "c"}, b"body") as reply:
                assert (reply.status, await reply.whole(10)) == (status, body)
        assert reply.fields["x-a"] == "b"
        assert len(made) == 1
        assert heads[0].startswith(b"POST /x?y HTTP/1.1\r\n")
        assert b"host: a.example\r\n" in heads[0].lower()
        assert bodies == [b"body"] * 3


async def test_what_was_not_read_to_its_end_is_not_used_again() -> None:
    async with against(saying(OK, OK)) as (caller, made):
        for _ in range(2):
            async with caller.asked("GET", "/", {}) as reply:
                assert reply.status == 200
        assert len(made) == 2


async def test_a_kept_connection_that_the_other_side_ended_is_not_used() -> None:
    async with against(saying(OK)) as (caller, made):
        for count in (1, 2):
            async with caller.asked("GET", "/", {}) as reply:
                await reply.whole(10)
            await asyncio.sleep(0.05)
            assert len(made) == count


async def test_closing_ends_what_is_kept_and_what_is_not_read_to_its_end() -> None:
    ended: list[int] = []

    async def speaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        ended.append(1)

    async with against(speaks) as (caller, made), caller.asked("GET", "/", {}):
        async with caller.asked("GET", "/", {}) as kept:
            await kept.whole(10)
        await asyncio.sleep(0.05)
        assert (len(made), ended) == (2, [])
        caller.close()
        async with asyncio.timeout(5):
            while len(ended) < 2:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "ended before its answer|not HTTP"),
        (b"nonsense\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * (HEAD + 10), "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "not HTTP|ended before"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "not HTTP|ended before"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "not HTTP"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", "not HTTP|ended"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + b"x" * 20, "more than 10 bytes"),
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_an_error(answer: bytes, why: str) -> None:
    async with against(saying(answer)) as (caller, _):
        with pytest.raises(CallError, match=why):
            async with caller.asked("GET", "/", {}) as reply:
                await reply.whole(10)


async def test_a_request_that_is_not_http_is_an_error_and_goes_nowhere() -> None:
    async with against(saying(OK)) as (caller, _):
        for target, fields in (
            ("/", {"x": " a"}),
            ("/", {"x": "a\r\nb: c"}),
            ("/a b", {}),
            ("/", {"x y": "a"}),
        ):
            with pytest.raises(CallError, match="not HTTP"):
                async with caller.asked("GET", target, fields):
                    pass
        assert heads == []


async def test_a_connection_that_nobody_carries_is_an_error() -> None:
    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader, writer

    for trust in (None, trusting([])):
        async with against(leaves, trust) as (caller, _):
            with pytest.raises(CallError):
                async with caller.asked("GET", "/", {}):
                    pass


async def test_only_what_is_trusted_is_spoken_to(tmp_path: Path) -> None:
    root, stranger = make("root"), make("stranger")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make("leaf", root, names=("a.example",)).write(tmp_path, "leaf"))

    trusted, other = trusting([root.pem.decode()]), trusting([stranger.pem.decode()])
    async with against(saying(OK), trusted, context) as (caller, _), caller.asked("GET", "/", {}) as reply:
        assert await reply.whole(10) == b"ok"
    async with against(saying(OK), other, context) as (caller, _):
        with pytest.raises(CallError, match="TLS failed"):
            async with caller.asked("GET", "/", {}):
                pass
