"""Sections from messages."""

from __future__ import annotations

import asyncio

from mitmproxy import http

from capsule.egress.events import headers_event, http_event, response_event
from capsule.egress.hello import Hello
from capsule.egress.story import Place


def place(port: int = 443, *, tls: bool = True) -> Place:
    loop = asyncio.new_event_loop()
    program = loop.create_future()
    loop.close()
    hello = Hello("a.example", (b"h2",), encrypted=False) if tls else None
    return Place("a.example", port, ("127.0.0.1", 5), ("198.18.0.2", port), program, hello=hello)


def test_a_request() -> None:
    headers = http.Headers(content_type="application/grpc", user_agent="u")
    request = http.Request.make("POST", "https://ignored.example/a%20b?x=1&y", b"", headers)
    event = http_event(request, place(8443))
    assert event == {
        "method": "POST", "scheme": "https", "host": "a.example", "port": 8443, "path": "/a b", "query": "x=1&y",
        "url": "https://a.example:8443/a%20b?x=1&y", "version": "1.1", "sni": "a.example", "grpc": True,
        "headers": {"content-type": "application/grpc", "user-agent": "u", "content-length": "0"},
        "content_type": "application/grpc", "user_agent": "u",
    }  # fmt: skip


def test_absent_is_absent() -> None:
    event = http_event(http.Request.make("GET", "http://x/"), place(80, tls=False))
    assert event["url"] == "http://a.example/"
    assert not {"query", "user_agent", "content_type", "sni", "grpc", "websocket"} & event.keys()


def test_headers_are_joined_and_shown() -> None:
    headers = http.Headers([(b"A", b"1"), (b"a", b"2"), (b"B", b"\xff")])
    assert headers_event(headers) == {"a": "1, 2", "b": "\\xff"}
    response = http.Response.make(200, b"", {"Content-Type": "text/html"})
    assert response_event(response, 7)["content_type"] == "text/html"
    assert response_event(response, 7)["size"] == 7
