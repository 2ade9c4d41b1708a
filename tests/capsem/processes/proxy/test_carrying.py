"""Streams one by one, and too many of them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from capsem.processes.proxy import carrying
from capsem.wire import guest, proxy
from capsem.wire.frame import Data, End, Message, Reset
from capsem.wire.frame import encode as encode_frame
from tests.capsem.processes.proxy.standing import Standing, host

pytestmark = pytest.mark.asyncio


async def test_bytes_pass_both_ways_and_the_ends_with_them() -> None:
    loop = asyncio.get_running_loop()
    async with Standing(host("a.example", 5432, inspect="never")) as stand:
        _, address = await stand.resolve("a.example")
        stream = await stand.open("tcp", address, 5432)
        await stand.opened(stream)
        body = bytes(range(256)) * 2000
        for place in range(0, len(body), 100_000):
            await stand.send(encode_frame(Data(stream, body[place : place + 100_000])))
            if place == 0:
                async with asyncio.timeout(10):
                    upstream = await stand.upstream.get()
            got = bytearray()
            async with asyncio.timeout(10):
                while len(got) < len(body[place : place + 100_000]):
                    got += await loop.sock_recv(upstream, 1 << 16)
            assert got == body[place : place + 100_000]
        await stand.send(encode_frame(End(stream)))
        async with asyncio.timeout(10):
            assert await loop.sock_recv(upstream, 10) == b""
            await loop.sock_sendall(upstream, b"bye")
        upstream.close()
        assert await stand.frame() == Data(stream, b"bye")
        assert await stand.frame() == End(stream)
        await stand.until(lambda: stand.entries[-1]["type"] == "egress.tcp")
        assert stand.entries[-1]["tcp"]["bytes_out"] == len(body)


async def test_a_connection_that_cannot_be_opened_is_reset() -> None:
    async with Standing(host("a.example", 5432, inspect="never")) as stand:
        stand.refusing = "it leads into the private"
        _, address = await stand.resolve("a.example")
        stream = await stand.open("tcp", address, 5432)
        await stand.opened(stream)
        assert await stand.frame() == Reset(stream)
        await stand.until(lambda: stand.entries[-1]["type"] == "egress.tcp")
        assert stand.entries[-1]["decision"]["by"] == "address"


@pytest.mark.parametrize("address", [None, "", "a.example", "::1", "1.2.3", "300.1.1.1", "1.2.3.4 "])
async def test_a_place_that_is_none_is_refused_and_recorded(address: str | None) -> None:
    async with Standing(host("a.example")) as stand:
        stream = await stand.open("tcp", address, 443, program=None)
        frame = await stand.frame()
        assert isinstance(frame, Message)
        assert guest.decode_host(frame) == guest.Refused(stream, "no IPv4 address and port")
        await stand.until(lambda: bool(stand.entries))
        assert "program" not in stand.entries[0]
        await stand.open("mcp")
        assert isinstance(await stand.frame(), Message)


async def test_a_question_that_is_none_gets_no_answer() -> None:
    async with Standing(host("a.example")) as stand:
        stream = await stand.open("dns")
        await stand.opened(stream)
        await stand.send(encode_frame(Data(stream, b"?")) + encode_frame(End(stream)))
        frame = await stand.frame()
        assert frame == Reset(stream) or isinstance(frame, Data)


async def test_a_flood_is_refused_unseen_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "BURST", 10.0)
    monkeypatch.setattr(carrying, "RATE", 0.001)
    async with Standing(host("a.example")) as stand:
        flood = b"".join(
            guest.encode(guest.Open(number, "tcp", "8.8.8.8", 80, None, None, None))
            for number in range(1, 101)
        )
        await stand.send(flood)
        await stand.until(lambda: any(entry["type"] == "egress.flood" for entry in stand.entries))
        looked_at = [entry for entry in stand.entries if entry["type"] == "egress.tcp"]
        counted = sum(entry["count"] for entry in stand.entries if entry["type"] == "egress.flood")
        assert counted + len(looked_at) == 100
        assert len(looked_at) <= 10
        assert not any(isinstance(said, proxy.Lost) for said in stand.said)


async def test_what_a_guest_gives_up_is_over_outside_too() -> None:
    async with Standing(host("a.example", 5432, inspect="never")) as stand:
        _, address = await stand.resolve("a.example")
        stream = await stand.open("tcp", address, 5432)
        await stand.opened(stream)
        await stand.send(encode_frame(Data(stream, b"hello")))
        async with asyncio.timeout(10):
            upstream = await stand.upstream.get()
            assert await asyncio.get_running_loop().sock_recv(upstream, 10) == b"hello"
            await stand.send(encode_frame(Reset(stream)))
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(upstream, 10) == b""
        upstream.close()
        await stand.until(lambda: stand.entries[-1]["type"] == "egress.tcp")


async def test_a_guest_that_opens_nonsense_fills_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "ODD_RATE", 0.001)
    async with Standing(host("a.example")) as stand:
        for _ in range(60):
            await stand.open("tcp", "x" * 4000, 443, program="/" + "y" * 4000)
        await stand.until(lambda: any(entry["type"] == "egress.flood" for entry in stand.entries))
        told = [entry for entry in stand.entries if entry["type"] == "egress.tcp"]
        assert 0 < len(told) <= carrying.ODD_BURST
        assert all(len(entry["tcp"]["address"]) == carrying.SHOWN for entry in told)
        assert all(len(entry["program"]["path"]) < 1100 for entry in told)
