"""The servers of the corpus read what a strict one would refuse."""

from __future__ import annotations

import pytest

from capsule.attack.outside import read_requests

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "targets"),
    [
        (GET + GET, ["/x", "/x"]),
        (GET[:-1], []),
        (b"GET /x HTTP/1.1\nHost: a\n\n" + GET, ["/x", "/x"]),
        (b"POST /y HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + GET, ["/y", "/x"]),
        (b"POST /y HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", []),
        (b"POST /y HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + GET, ["/y", "/x"]),
        (b"POST /y HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET, ["/y", "/x"]),
    ],
)  # fmt: skip
def test_requests(data: bytes, targets: list[str]) -> None:
    found, used = read_requests(data)
    assert [request.target for request in found] == targets
    assert used == (len(data) if targets else 0)
