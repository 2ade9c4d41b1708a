"""The handshake of a WebSocket: what asks for one, and what agrees to it."""

from __future__ import annotations

import pytest

from capsule.egress.upgrade import accepting, answer_problem, extended, request_problem

ASKED = {
    "upgrade": "websocket",
    "connection": "keep-alive, Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
AGREED = {
    "upgrade": "WebSocket",
    "connection": "upgrade",
    "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
}


def test_the_example_of_the_rfc() -> None:
    assert accepting(ASKED["sec-websocket-key"]) == AGREED["sec-websocket-accept"]
    assert request_problem("GET", "HTTP/1.1", ASKED) is None
    assert request_problem("GET", "HTTP/1.1", {**ASKED, "content-length": "0"}) is None
    assert answer_problem(ASKED, AGREED) is None


@pytest.mark.parametrize(
    ("method", "version", "changed"),
    [
        ("POST", "HTTP/1.1", {}),
        ("GET", "HTTP/1.0", {}),
        ("GET", "HTTP/2.0", {}),
        ("GET", "HTTP/1.1", {"connection": "close"}),
        ("GET", "HTTP/1.1", {"sec-websocket-version": "777"}),
        ("GET", "HTTP/1.1", {"sec-websocket-version": "13, 8"}),
        ("GET", "HTTP/1.1", {"sec-websocket-version": ""}),
        ("GET", "HTTP/1.1", {"sec-websocket-key": ""}),
        ("GET", "HTTP/1.1", {"sec-websocket-key": "c2hvcnQ="}),
        ("GET", "HTTP/1.1", {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="}),
        ("GET", "HTTP/1.1", {"sec-websocket-key": "\xe9" * 24}),
        ("GET", "HTTP/1.1", {"content-length": "40"}),
        ("GET", "HTTP/1.1", {"transfer-encoding": "chunked"}),
    ],
)
def test_what_asks_for_none(method: str, version: str, changed: dict[str, str]) -> None:
    assert request_problem(method, version, {**ASKED, **changed}) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"upgrade": ""},
        {"upgrade": "h2c"},
        {"upgrade": "websocket, h2c"},
        {"connection": "close"},
        {"sec-websocket-accept": ""},
        {"sec-websocket-accept": accepting("AAAAAAAAAAAAAAAAAAAAAA==")},
        {"sec-websocket-extensions": "permessage-deflate"},
    ],
)
def test_what_agrees_to_none(changed: dict[str, str]) -> None:
    assert answer_problem(ASKED, {**AGREED, **changed}) is not None


def test_extensions_that_were_offered_may_be_chosen() -> None:
    chosen = {**AGREED, "sec-websocket-extensions": "permessage-deflate"}
    assert answer_problem({**ASKED, "sec-websocket-extensions": "permessage-deflate"}, chosen) is None
    assert extended(chosen)
    assert not extended(AGREED)
