"""What rules see of a body, what waits for one, and the form that goes out."""

from __future__ import annotations

import asyncio

import pytest
from mitmproxy import http

from capsule.egress.forms import TEXT, body_event, decoded, encoded, head_size, may_be_short, settle
from capsule.egress.story import Place


def request(**headers: str) -> http.Request:
    made = http.Request.make("POST", "https://a.example/x", b"")
    for name, value in headers.items():
        made.headers[name] = value
    made.headers.pop("content-length", None)
    return made


def test_rules_see_text_and_json_as_far_as_they_can_be_read() -> None:
    assert body_event(request(), b'{"a": 1}')["json"] == {"a": 1}
    assert body_event(request(), b"plain")["text"] == "plain"
    assert body_event(request(), None) == {"truncated": True, "long": True}
    assert "text" not in body_event(request(), b"\xff\xfe")
    coded = request()
    coded.headers["content-encoding"] = "br"
    assert body_event(coded, b"plain") == {"size": 5, "truncated": False}
    long = body_event(request(), b"x" * (TEXT + 1))
    assert (long["size"], long["truncated"], len(long["text"])) == (TEXT + 1, True, TEXT)
    assert "json" not in body_event(request(), b"{" * 100_000)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "bad", "model": "good"}',
        b'{"MODEL": "bad", "model": "good"}',
        b'{"mod\\u0065l": "bad", "model": "good"}',
        '{"to\u212aen": 1, "token": 2}'.encode(),
        b'{"deep": [{"model": "bad", "model": "good"}]}',
    ],
)
def test_json_of_which_two_readers_take_different_values_is_none(body: bytes) -> None:
    found = body_event(request(), body)
    assert "json" not in found
    assert found["text"] == body.decode()


@pytest.mark.parametrize(
    ("fields", "short"),
    [
        ({"content-length": "5"}, True),
        ({"content-length": "0"}, False),
        ({"content-length": "999999"}, False),
        ({"content-length": "x"}, False),
        ({"transfer-encoding": "chunked"}, True),
        ({"transfer-encoding": "chunked", "content-type": "application/grpc+proto"}, False),
        ({}, False),
    ],
)
def test_which_bodies_may_be_short(fields: dict[str, str], short: bool) -> None:
    made = request()
    for name, value in fields.items():
        made.headers[name] = value
    assert may_be_short(made) is short


def test_what_goes_out_has_a_host_and_no_upgrade_but_that_of_websocket() -> None:
    async def place() -> Place:
        future = asyncio.get_running_loop().create_future()
        return Place("a.example", 8443, ("10.0.0.1", 1), ("198.18.0.2", 8443), future, None)

    found = asyncio.run(place())
    made = request()
    made.headers["upgrade"] = "h2c"
    made.headers["http2-settings"] = "AAMAAABkAARAAAAAAAIAAAAA"
    made.headers["proxy-authorization"] = "Basic eA=="
    made.headers.pop("host", None)
    settle(made, found)
    assert made.headers["host"] == "a.example:8443"
    assert not {"upgrade", "http2-settings", "proxy-authorization"} & {name.lower() for name in made.headers}
    made.headers["upgrade"] = "websocket"
    settle(made, found)
    assert made.headers["upgrade"] == "websocket"


def test_fields_there_and_back() -> None:
    fields = ((b"A", b"\xe9"), (b"b", b"2"))
    assert tuple(encoded(decoded(http.Headers(fields)))) == fields
    assert encoded([("a", "\u20ac")]) == [(b"a", "\u20ac".encode())]


def test_a_head_counts_with_its_target_and_fields() -> None:
    made = http.Request.make("GET", "https://a.example/" + "x" * 100, b"", [(b"a", b"b" * 50)])
    assert head_size(made) > 150
