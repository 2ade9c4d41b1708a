"""What is said of a conversation in heads, and what an answer is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsem.vm.remote import parse_address
from capsem.wire.streamable import AnswerError, Speaking, begun, content, printable, resolved, told

RESULT = {"result": {"protocolVersion": "2025-06-18"}}
ORIGIN = parse_address("https://mcp.example/sse")


def test_heads_of_a_conversation() -> None:
    assert Speaking().fields(posts=True) == {
        "accept": "application/json, text/event-stream", "accept-encoding": "identity",
        "content-type": "application/json",
    }  # fmt: skip
    speaking = begun({"mcp-session-id": "s-1"}, RESULT)
    assert speaking == Speaking("s-1", "2025-06-18")
    assert speaking.fields(posts=False, last="e-7") == {
        "accept": "text/event-stream", "accept-encoding": "identity", "mcp-session-id": "s-1",
        "mcp-protocol-version": "2025-06-18", "last-event-id": "e-7",
    }  # fmt: skip
    for last in (" e", "e ", " ", "", "e\r", "é", "x" * 1025):
        assert "last-event-id" not in speaking.fields(posts=False, last=last)
    assert speaking.fields(posts=False, last="a b")["last-event-id"] == "a b"
    assert begun({}, RESULT).session is None
    assert begun({"mcp-session-id": "s-1"}, {"error": {}}) == Speaking(), "what failed has begun nothing"


@given(st.text())
def test_what_goes_into_a_head_is_of_one_line_of_ascii(text: str) -> None:
    try:
        fields = begun({"mcp-session-id": text}, {"result": {"protocolVersion": text}}).fields(
            posts=True, last=text
        )
    except AnswerError:
        fields = Speaking().fields(posts=True, last=text)
    for value in fields.values():
        assert value.isascii()
        assert value.isprintable()
        assert value == value.strip()


@pytest.mark.parametrize("session", ["", " ", "a b", "a\r\nb", "é", "x" * 1025])
def test_ids_that_are_none(session: str) -> None:
    with pytest.raises(AnswerError, match="a session's id"):
        begun({"mcp-session-id": session}, RESULT)


@pytest.mark.parametrize(
    ("status", "kind", "found"),
    [
        (200, "application/json", "message"), (200, "Application/JSON; charset=utf-8", "message"),
        (200, "text/event-stream", "events"), (201, "text/event-stream;x=y", "events"), (202, "", "nothing"),
        (202, "text/html", "nothing"), (204, "", "nothing"),
    ],
)  # fmt: skip
def test_what_an_answer_is(status: int, kind: str, found: str) -> None:
    assert content(status, {"content-type": kind}) == found


@pytest.mark.parametrize(
    ("status", "fields", "why"),
    [
        (200, {"content-type": "text/html"}, "the type text/html"), (200, {}, "the type none"),
        (200, {"content-type": "x\x1b[2J"}, "the type x"),
        (200, {"content-type": "application/json", "content-encoding": "gzip"}, "a content coding"),
        (302, {"location": "http://10.0.0.1/"}, "a redirect to http://10.0.0.1/, which is not followed"),
        (304, {}, "a redirect to nowhere"), (401, {}, "wants a credential"), (403, {}, "status 403"),
        (404, {}, "status 404"), (500, {"content-type": "application/json"}, "status 500"), (600, {}, "status 600"),
    ],
)  # fmt: skip
def test_what_is_no_answer(status: int, fields: dict[str, str], why: str) -> None:
    with pytest.raises(AnswerError, match=r".") as refused:
        content(status, fields)
    assert why in refused.value.reason
    assert refused.value.reason.isprintable()
    assert not refused.value.over


def test_a_session_that_is_no_more_is_over() -> None:
    with pytest.raises(AnswerError) as refused:
        content(404, {}, known=True)
    assert refused.value.over


def test_what_an_error_says() -> None:
    blocked = {"x-capsule-blocked": "grant"}
    assert told(403, blocked, b'{"reason": "no", "place": "f:3", "allow": "add it"}') == "no; f:3; add it"
    assert (
        told(400, {}, b'{"jsonrpc":"2.0","error":{"code":1,"message":"bad\\u001b[2J thing"}}')
        == "bad [2J thing"
    )
    assert told(500, {"content-type": "text/plain"}, b"it is\n\nbroken\x00") == "it is broken"
    assert told(500, {"content-type": "text/html"}, b"<html>") == ""
    assert told(500, {}, b"[" * 9000) == ""
    assert told(500, {}, b"[1]") == ""
    assert len(told(500, {"content-type": "text/plain"}, b"x" * 9000)) == 201


@given(st.binary(max_size=300), st.integers(100, 599))
def test_no_body_of_an_error_drives_a_terminal(body: bytes, status: int) -> None:
    for fields in ({}, {"content-type": "text/plain"}, {"x-capsule-blocked": "x"}):
        assert told(status, fields, body).isprintable()


def test_texts_are_one_line() -> None:
    assert printable("a\r\n b\x1b\u202ec") == "a b c"


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [("/m?s=1", "/m?s=1"), ("https://mcp.example/m", "/m"), ("https://MCP.example:443/m", "/m")],
)
def test_an_endpoint_of_the_older_transport(endpoint: str, target: str) -> None:
    assert resolved(ORIGIN, endpoint).target == target


@pytest.mark.parametrize(
    "endpoint",
    ["", "m", "?x", "//other.example/m", "https://other.example/m", "http://mcp.example/m", "https://mcp.example:444/m",
     "https://10.0.0.1/", "/a b", "/a\\b", "javascript:x", "https://mcp.example@evil.example/", "https://[x/"],
)  # fmt: skip
def test_an_endpoint_elsewhere_is_none(endpoint: str) -> None:
    with pytest.raises(AnswerError, match="an endpoint"):
        resolved(ORIGIN, endpoint)
