"""How many conversations with servers over HTTP a machine has, and that each is its own."""

from __future__ import annotations

import pytest

from capsem.processes.proxy import reaching
from capsem.wire.frame import Reset
from capsem.wire.frame import encode as encode_frame
from tests.capsem.processes.proxy.speaking import opened, send
from tests.capsem.processes.proxy.test_remote import BEGIN, BEGUN, LIST, begin, usual
from tests.capsem.processes.proxy.webserver import Asked, Web

pytestmark = pytest.mark.asyncio


async def test_more_conversations_than_there_may_be_are_refused_until_one_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaching, "AT_ONCE", 1)
    async with Web(usual) as web, web.spoken() as (stand, program):
        await begin(program)
        other = await opened(stand, 2)
        await other.say(b"forge\n", BEGIN)
        assert "1 MCP servers are spoken to over HTTP" in (await other.heard())["error"]["message"]
        await send(stand, encode_frame(Reset(1)))
        await web.until(lambda: web.said("DELETE") != [])
        third = await opened(stand, 3)
        await third.say(b"forge\n", BEGIN)
        while "result" not in (answer := await third.heard()):
            assert "spoken to" in answer["error"]["message"]
            third = await opened(stand, third.number + 1)
            await third.say(b"forge\n", BEGIN)


async def test_too_many_new_ones_in_a_short_time_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "STARTS", 1.0)
    async with Web(usual) as web, web.spoken() as (stand, program):
        await begin(program)
        other = await opened(stand, 2)
        await other.say(b"forge\n", BEGIN)
        assert "in a short time" in (await other.heard())["error"]["message"]


async def test_a_session_is_of_one_stream() -> None:
    """Two programs: each has the session that the server gave it, and never that of the other."""
    count = 0

    async def counting(asked: Asked) -> None:
        nonlocal count
        if asked.method == "POST" and asked.message.get("method") == "initialize":
            count += 1
            await asked.result({"protocolVersion": "2025-06-18"}, mcp_session_id=f"s-{count}")
        else:
            await usual(asked)

    async with Web(counting) as web, web.spoken() as (stand, program):
        await begin(program)
        other = await opened(stand, 2)
        await other.say(b"forge\n", BEGIN, BEGUN, {**LIST, "id": "other's"})
        await web.until(lambda: any(b"other's" in one.body for one in web.asked))
        await program.say({**LIST, "id": "mine"})
        await web.until(lambda: any(b"mine" in one.body for one in web.asked))
        of = {
            one.message["id"]: one.headers["mcp-session-id"] for one in web.asked if b"tools/list" in one.body
        }
        assert of == {"mine": "s-1", "other's": "s-2"}
