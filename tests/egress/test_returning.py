"""An answer's body on its way: what is decoded, what keeps its length, what is edited, what cannot be."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from capsule.egress import returning
from capsule.egress.echoes import Echo, Echoes
from capsule.egress.returning import Returning
from capsule.rules.rewrite import Edit, RewriteError

ECHOES = Echoes([Echo(b"s3cr3t-value", b"capsule-secret-token-" + b"0" * 32)])
SET = (Edit("set_json", "$.user.name", "-", "response"), Edit("redact", "[0-9]{4}", "####", "response"))


def through(body: Returning, data: bytes, size: int = 7) -> bytes:
    return b"".join(body.feed(data[at : at + size]) for at in range(0, len(data), size)) + body.end()


def test_what_nothing_touches_is_idle() -> None:
    body = Returning((), None, "text/plain", "", length=5)
    assert body.idle
    request = Returning((Edit("set_json", "$.a", 1, "request"),), None, "application/json", "", length=5)
    assert request.idle, "edits of the request are not the answer's"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_coding_is_taken_off(coding: str) -> None:
    plain = b"x" * 300_000 + b"s3cr3t-value"
    packed = gzip.compress(plain) if coding == "gzip" else zlib.compress(plain)
    body = Returning((), ECHOES, "text/plain", coding, length=len(packed))
    assert (body.decoded, body.whole, body.keeps_length) == (True, False, False)
    assert through(body, packed).endswith(b"x" + b"capsule-secret-token-" + b"0" * 32)
    assert body.redacted == 1
    with pytest.raises(RewriteError, match="not of the coding"):
        Returning((), ECHOES, "text/plain", "gzip", length=None).feed(b"plain text after all")
    with pytest.raises(RewriteError, match="came as 'br'"):
        Returning((), ECHOES, "text/plain", "br", length=None)


def test_a_long_body_of_known_length_keeps_it() -> None:
    body = Returning((), ECHOES, "text/plain", "", length=returning.BODY + 1)
    assert body.keeps_length
    assert through(body, b"a s3cr3t-value b") == b"a capsule-secr b"


def test_json_is_edited_whole_and_events_by_the_line() -> None:
    document = json.dumps({"user": {"name": "me", "age": 1.10}, "card": "1234"}).encode()
    edited = {"user": {"name": "-", "age": 1.1}, "card": "####"}
    body = Returning(SET, None, "application/json; charset=utf-8", "", length=None)
    assert json.loads(through(body, document)) == edited
    events = b"event: a\ndata: " + document + b"\n\ndata: [DONE]\n\ndata:" + document + b"\r\n\r\n: 1234\n"
    got = through(Returning(SET, None, "text/event-stream", "", length=None), events).split(b"\n")
    assert [json.loads(line[5:]) for line in got if line.startswith(b"data:") and b"{" in line] == [
        edited
    ] * 2
    assert (got[0], got[3], got[-2]) == (b"event: a", b"data: [DONE]", b": ####")
    lines = Returning(SET, None, "application/x-ndjson", "", length=None)
    assert [json.loads(line) for line in through(lines, document + b"\n" + document).splitlines()] == [
        edited
    ] * 2


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("text/html", b"<p>"),
        ("text/event-stream", b"data: {broken\n\n"),
        ("application/json", b"[" * 2_000_000),
    ],
)
def test_what_cannot_be_edited_does_not_go_on(kind: str, data: bytes) -> None:
    body = Returning(SET, None, kind, "", length=None)
    with pytest.raises(RewriteError):
        through(body, data, 1 << 16)
