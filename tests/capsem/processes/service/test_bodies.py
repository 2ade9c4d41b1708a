from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from capsem.processes.service.bodies import Bounded

pytestmark = pytest.mark.asyncio


async def counts(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        body = await Request(scope, receive).body()
    except ClientDisconnect:
        await PlainTextResponse("hung up", 400)(scope, receive, send)
        return
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def test_a_body_over_the_limit_is_not_taken_whatever_it_says() -> None:
    transport = httpx.ASGITransport(app=Bounded(counts, limit=1000))
    async with httpx.AsyncClient(transport=transport, base_url="http://capsem") as client:
        assert (await client.post("/", content=b"x" * 1000)).text == "1000"
        refused = await client.post("/", content=b"x" * 1001)
        assert (refused.status_code, refused.json()["error"]["kind"]) == (413, "UsageError")

        async def unsaid() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield b"x" * 100

        assert (await client.post("/", content=unsaid())).text == "hung up"
