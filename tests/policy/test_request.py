from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.policy.paths import PathError
from capsule.policy.request import Request, parse_request


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("https://a.example", Request("GET", "https", "a.example", 443, "/")),
        ("http://A.example./x?y=%2f", Request("GET", "http", "a.example", 80, "/x?y=%2f")),
        ("POST https://a.example:8443/", Request("POST", "https", "a.example", 8443, "/")),
        ("M-SEARCH https://1.1.1.1?q", Request("M-SEARCH", "https", "1.1.1.1", 443, "/?q")),
        ("https://a.example/../x", Request("GET", "https", "a.example", 443, "/../x")),
    ],
)
def test_requests(text: str, request_: Request) -> None:
    assert parse_request(text) == request_
    assert parse_request(request_.text) == request_


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.example", "expected form"),
        ("ftp://a.example", "the request"),
        ("get https://a.example", "the request"),
        ("GET  https://a.example", "the request"),
        ("https://", "the request"),
        ("https://a.example/#x", "the request"),
        ("https://u@a.example/", "a user in it"),
        ("https://a.example:443@evil.example/", "a user in it"),
        ("https://a.example:0/", "no sound port"),
        ("https://a.example:99999/", "no sound port"),
        ("https://a.example:/", "no sound port"),
        ("https://[::1]/", "IPv6"),
        ("https://127.1/", "spelling of the address"),
        ("https://bücher.example/", "beyond ASCII"),
        ("https://a.example/a b", "a space"),
        ("https://a.example\\@evil.example/", "the request"),
    ],
)
def test_what_is_no_request_is_refused(text: str, says: str) -> None:
    with pytest.raises(PathError) as caught:
        parse_request(text)
    assert says.replace("expected form", "the request") in str(caught.value)


@given(st.text(max_size=30).map(lambda rest: "https://" + rest) | st.text(max_size=30))
def test_what_is_read_is_read_again_from_its_own_spelling(text: str) -> None:
    try:
        found = parse_request(text)
    except PathError:
        return
    assert parse_request(found.text) == found
