"""Heads that are carried, and heads that could mean two things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.strictness import fields_problem, request_problem

GOOD = (
    b"GET",
    b"/a?b=c",
    "HTTP/1.1",
    [(b"Host", b"a.example"), (b"x-tab", b"a\tb"), (b"connection", b"close, x-host"), (b"X", "é".encode())],
)


@pytest.mark.parametrize(
    ("method", "target", "version", "http2"),
    [
        (b"GET", b"/", "HTTP/1.1", False),
        (b"GET", b"/", "HTTP/1.0", False),
        (b"POST", b"/%0d%0a", "HTTP/2.0", True),
        (b"M-SEARCH", b"//x", "HTTP/1.1", False),
        (b"OPTIONS", b"*", "HTTP/1.1", False),
        (b"GET", "/é".encode(), "HTTP/1.1", False),
    ],
)
def test_carried(method: bytes, target: bytes, version: str, http2: bool) -> None:
    assert request_problem(method, target, version, GOOD[3], http2=http2) is None


@pytest.mark.parametrize(
    ("method", "target", "version", "http2", "said"),
    [
        (b"GET", b"/", "HTTP/2.0", False, "version"),
        (b"GET", b"/", "HTTP/1.2", False, "version"),
        (b"GET", b"/", "HTTP/1.1", True, "version"),
        (b"GE(T", b"/", "HTTP/1.1", False, "method"),
        (b"", b"/", "HTTP/1.1", False, "method"),
        (b"GET /x HTTP/1.1", b"/", "HTTP/2.0", True, "method"),
        (b"GET", b"/a b", "HTTP/2.0", True, "target"),
        (b"GET", b"/a\nb", "HTTP/2.0", True, "target"),
        (b"GET", b"/a\tb", "HTTP/1.1", False, "target"),
        (b"GET", b"/a\x7f", "HTTP/1.1", False, "target"),
        (b"GET", b"a", "HTTP/1.1", False, "not a path"),
        (b"GET", b"", "HTTP/1.1", False, "not a path"),
        (b"GET", b"*", "HTTP/1.1", False, "not a path"),
        (b"GET", b"https://x/", "HTTP/2.0", True, "not a path"),
    ],
)
def test_refused(method: bytes, target: bytes, version: str, http2: bool, said: str) -> None:
    assert said in (request_problem(method, target, version, [], http2=http2) or "")


@pytest.mark.parametrize(
    "name",
    [
        b"Transfer_Encoding", b"content_length", b"Content.Length", b"transfer~encoding", b"Content_Type",
        b"content.encoding",
    ],
)  # fmt: skip
def test_a_name_that_a_gateway_takes_for_framing_is_refused(name: bytes) -> None:
    said = request_problem(b"POST", b"/", "HTTP/1.1", [(b"host", b"a"), (name, b"chunked")], http2=False)
    assert said is not None
    assert "about framing or the body" in said
    # An answer is read by the program that asked; other names with `_` are ordinary.
    assert fields_problem([(name, b"0")]) is None
    assert request_problem(b"POST", b"/", "HTTP/1.1", [(b"x_id", b"1")], http2=False) is None


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\rb"), (b"x", b"a\nb"), (b"x", b"a\r\n b"), (b"x", b"a\0"), (b"x", b"\x1b[m"), (b"x", b"\x7f"),
        (b"x y", b"a"), (b"", b"a"), (b"x:", b"a"), (b"x\r\ny", b"a"), (b"x ", b"a"), ("ü".encode(), b"a"),
        (b"Content-Length", b"+1"), (b"content-length", b""), (b"content-length", b"1,1"), (b"content-length", b"0x1"),
        (b"Transfer-Encoding", b"gzip, chunked"), (b"transfer-encoding", b"deflate"),
        (b"Connection", b"close, Content-Length"), (b"connection", b"transfer-encoding"), (b"connection", b"x,\thost"),
        (b"content-length", b"9" * 19), (b"content-length", "٥".encode()),  # noqa: RUF001 - a digit of another script
    ],
)  # fmt: skip
def test_fields_that_are_refused(field: tuple[bytes, bytes]) -> None:
    assert fields_problem([(b"a", b"b"), field]) is not None
    assert request_problem(*GOOD[:3], [field], http2=False) is not None


@given(
    st.binary(max_size=30),
    st.binary(max_size=30),
    st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3),
)
def test_what_is_carried_is_one_head_in_http1(
    method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    if request_problem(method, target, "HTTP/1.1", fields, http2=False) is not None:
        return
    lines = [method + b" " + target + b" HTTP/1.1", *(name + b": " + value for name, value in fields)]
    whole = b"\r\n".join(lines)
    assert len(whole.split(b"\r\n")) == len(lines)
    assert whole.count(b"\n") == whole.count(b"\r") == len(lines) - 1
    assert len(lines[0].split(b" ")) == 3
