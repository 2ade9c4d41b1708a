"""HTTP/1 at both ends: connections kept, half closed, pipelined; what ends a body, and what does not end an answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.egress.supervisor import host
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")


def test_http1_keeps_the_connection(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    before = upstream.accepted
    urls = [f"https://a.example/{number}" for number in range(5)]
    done = inside.curl("--http1.1", *urls)
    assert done.out == "".join(f"hello /{number}" for number in range(5))
    assert upstream.accepted == before + 1


def test_half_close(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    assert inside.client("half", "a.example").out.endswith("late\n")


def test_trailers_and_interim_answers(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    assert inside.curl("http://a.example/early-hints").out == "after the hints"
    assert inside.curl("http://a.example/until-eof").out == "all there is"
    request = (
        "POST /trailers HTTP/1.1\\r\\nHost: a.example\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
        "5\\r\\nhello\\r\\n0\\r\\nX-Sum: 1\\r\\n\\r\\n"
        "GET /next HTTP/1.1\\r\\nHost: a.example\\r\\nConnection: close\\r\\n\\r\\n"
    )
    out = inside.client("raw", "a.example", "80", given=request).out
    assert "\r\n\r\n1\r\n5\r\n0" in out
    assert out.endswith("hello /next<end>")


def test_pipelined_requests_are_answered_in_order(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    request = "".join(f"GET /{n} HTTP/1.1\\r\\nHost: a.example\\r\\n\\r\\n" for n in range(5))
    out = inside.client("raw", "a.example", "80", "2", given=request).out
    assert [out.index(f"hello /{n}") for n in range(5)] == sorted(out.index(f"hello /{n}") for n in range(5))


def test_bodies_of_a_known_length_end_where_they_end(session: Any, plain: Upstream) -> None:
    """Whatever piece their last byte comes in; the connection then carries the next request."""
    inside = session(host("a.example", 80), **to(plain))
    sizes = [1, 16_384, 300_000, 0, 1_000_000]
    urls = [word for size in sizes for word in ("-o", "/dev/null", f"http://a.example/bytes/{size}")]
    done = inside.curl("-w", "%{size_download} %{num_connects}\\n", *urls)
    assert [int(line.split()[0]) for line in done.out.split("\n") if line] == sizes, done
    assert sum(int(line.split()[1]) for line in done.out.split("\n") if line) == 1
    posted = inside.curl("-H", "Expect:", "--data-binary", "@-", "http://a.example/size", given="x" * 700_000)
    assert posted.out == "700000"
