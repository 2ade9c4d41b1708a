"""A proxy as its monitor and its guest see it."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from capsem.wire import guest, proxy
from capsem.wire.frame import Data, End, Message, Reset
from capsem.wire.frame import encode as encode_frame
from tests.capsem.processes.proxy.standing import Standing, host

pytestmark = pytest.mark.asyncio


def opening(stream: int, kind: Literal["tcp", "dns"] = "tcp") -> bytes:
    return guest.encode(guest.Open(stream, kind, "192.0.2.7", 1, None, None, None))


async def test_a_name_a_connection_and_a_request_are_carried_and_recorded() -> None:
    loop = asyncio.get_running_loop()
    async with Standing(host("a.example")) as stand:
        code, address = await stand.resolve("a.example")
        assert code == 0
        assert address is not None
        assert [entry["dns"]["name"] for entry in stand.entries] == ["a.example"]
        stream = await stand.open("tcp", address, 80)
        await stand.opened(stream)
        await stand.send(encode_frame(Data(stream, b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n")))
        async with asyncio.timeout(10):
            upstream = await stand.upstream.get()
            head = await loop.sock_recv(upstream, 4096)
            assert head.startswith(b"GET /x HTTP/1.1")
            await loop.sock_sendall(upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        data = await stand.frame()
        assert isinstance(data, Data)
        assert data.content.endswith(b"hi")
        await stand.send(encode_frame(End(stream)))
        await stand.until(lambda: stand.entries[-1]["type"] == "egress.http")
        upstream.close()
        entry = stand.entries[-1]
        assert (entry["http"]["path"], entry["decision"]["action"]) == ("/x", "allow")
        assert entry["program"] == {"path": "/usr/bin/curl", "pid": 42, "name": "curl"}


async def test_a_name_that_is_not_listed_does_not_exist_and_its_address_is_reset() -> None:
    async with Standing(host("a.example")) as stand:
        assert (await stand.resolve("secret-data.evil.example"))[0] == 3
        entry = stand.entries[-1]
        assert (entry["type"], entry["decision"]["action"]) == ("egress.dns", "block")
        assert entry["program"]["path"] == "/usr/bin/curl"
        for address in ("169.254.169.254", "10.0.0.1", "127.0.0.1", "8.8.8.8"):
            stream = await stand.open("tcp", address, 80)
            await stand.opened(stream)
            assert await stand.frame() == Reset(stream)
        await stand.until(lambda: len([e for e in stand.entries if e["type"] == "egress.tcp"]) == 4)
        assert not any(isinstance(said, proxy.Dial) for said in stand.said)


async def test_the_machine_s_own_names_are_its_loopback_and_no_other_is() -> None:
    async with Standing() as stand:
        for name in ("mine", "m-1"):
            assert await stand.resolve(name) == (0, "127.0.0.1")
            assert stand.entries[-1]["decision"]["action"] == "allow"
        for name in ("mine.example", "x.m-1", "m-2"):
            assert (await stand.resolve(name))[0] == 3
            assert stand.entries[-1]["decision"]["action"] == "block"


async def test_an_answer_waits_until_it_is_on_the_log() -> None:
    async with Standing(host("a.example")) as stand:
        stand.noting = False
        asked = asyncio.create_task(stand.resolve("a.example"))
        await stand.until(lambda: any(isinstance(said, proxy.Note) for said in stand.said))
        await asyncio.sleep(0.1)
        assert not asked.done()
        note = next(said for said in stand.said if isinstance(said, proxy.Note))
        stand.handover.send(proxy.encode(proxy.Noted(note.id)))
        assert (await asked)[0] == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\0", b"\xff\xff\xff\xff", encode_frame(Data(9, b"never opened")), encode_frame(Message(b"{}")),
        opening(2) + opening(1),
        opening(1, "dns") + encode_frame(Data(1, b"x" * 100_000)) * 3,
    ],
)  # fmt: skip
async def test_a_guest_that_breaks_the_form_loses_its_network_and_nothing_else(garbage: bytes) -> None:
    async with Standing(host("a.example")) as stand:
        await stand.send(garbage)
        await stand.until(lambda: any(isinstance(said, proxy.Lost) for said in stand.said))
        assert not stand.serving.done() or stand.serving.exception() is None


async def test_rules_that_do_not_compile_refuse_everything() -> None:
    async with Standing(host("a.example"), rules="rules: [") as stand:
        [ready] = [said for said in stand.said if isinstance(said, proxy.Ready)]
        assert ready.problems
        code, address = await stand.resolve("a.example")
        assert (code, address) != (0, None)
        if address is not None:
            stream = await stand.open("tcp", address, 80)
            await stand.opened(stream)
            await stand.send(encode_frame(Data(stream, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")))
            data = await stand.frame()
            assert isinstance(data, Data)
            assert b" 403 " in data.content
        assert not any(isinstance(said, proxy.Dial) for said in stand.said)


async def test_a_dial_says_whether_what_granted_the_request_is_private() -> None:
    """One host with a path that may lead into the private and one that may not."""
    entries = (host("a.example", paths=["/in"], private=True), host("a.example", paths=["/out"]))
    for path, private in (("/in", True), ("/out", False)):
        async with Standing(*entries) as stand:
            _, address = await stand.resolve("a.example")
            stream = await stand.open("tcp", address, 80)
            await stand.opened(stream)
            await stand.send(
                encode_frame(Data(stream, f"GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode()))
            )
            await stand.until(lambda: any(isinstance(said, proxy.Dial) for said in stand.said))
            [dial] = [said for said in stand.said if isinstance(said, proxy.Dial)]
            assert (dial.host, dial.private) == ("a.example", private)
            (await stand.upstream.get()).close()
