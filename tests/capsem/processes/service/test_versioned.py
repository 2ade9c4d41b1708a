from __future__ import annotations

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from capsem.processes.service.versioned import CODE, Versioned
from capsem.wire.versions import WIRE, Version

pytestmark = pytest.mark.asyncio


class Counted:
    """An application that counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (None, 200),
        (Version("1.0", WIRE), 200),
        (Version("0.9", WIRE), 200),
        (Version("1.1", WIRE), CODE),
        (Version("0.9", WIRE - 1), CODE),
        (Version("1.0", WIRE + 1), CODE),
    ],
)
async def test_who_would_be_misunderstood_is_answered_before_anything_is_done(
    client: Version | None, code: int
) -> None:
    inner = Counted()
    asking = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=Versioned(inner, Version("1.0", WIRE))), base_url="http://capsem"
    )
    fields = {} if client is None else client.fields
    answer = await asking.post("/machines", headers=fields)
    assert answer.status_code == code
    assert (answer.headers["capsem-version"], answer.headers["capsem-wire"]) == ("1.0", str(WIRE))
    assert inner.asked == (code == 200)
    if code == CODE:
        assert answer.json()["error"]["kind"] == "VersionError"
    assert (await asking.get("/version", headers=fields)).status_code == 200
