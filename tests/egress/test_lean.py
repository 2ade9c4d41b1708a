"""The quicker methods answer as mitmproxy's own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.coretypes import multidict

import capsule.egress.lean

NAMES = st.sampled_from(["Host", "host", "HOST", "X-A", "x-a", "accept", ""])
FIELDS = st.lists(st.tuples(NAMES.map(str.encode), st.binary(max_size=6)), max_size=6)


@settings(deadline=None)
@given(FIELDS, NAMES)
def test_as_before(fields: list[tuple[bytes, bytes]], name: str) -> None:
    headers = http.Headers(fields)
    slow = [
        value.decode("utf-8", "surrogateescape")
        for value in multidict._MultiDict.get_all(headers, name.encode())
    ]
    assert headers.get_all(name) == headers.get_all(name.encode()) == slow
    assert headers.get(name) == (", ".join(slow) if slow else None)
    assert headers.get(name, "default") == (", ".join(slow) if slow else "default")
    assert (name in headers) is bool(slow)
    if slow:
        assert headers[name] == ", ".join(slow)
    else:
        with pytest.raises(KeyError):
            headers[name]
    assert 7 not in headers


def test_messages_are_still_made() -> None:
    assert capsule.egress.lean
    assert http.Response.make(200, b"x").content == b"x"
    assert http.Request.make("GET", "https://a.example/x").host == "a.example"
