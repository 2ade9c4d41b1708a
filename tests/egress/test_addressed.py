"""One host, said once: what `test_layers` refuses on the wire, here alone."""

from __future__ import annotations

import asyncio

import pytest
from mitmproxy.http import Headers, Request

from capsule.egress.addressed import disagreement
from capsule.egress.story import Place


@pytest.mark.parametrize(
    ("hosts", "fits"),
    [([b"a.example"], True), ([b"a.example:80"], True), ([b"A.EXAMPLE"], True), ([b"b.example"], False), ([], False),
     ([b"a.example:81"], False), ([b"a.example", b"a.example"], False), ([b"x@a.example"], False)],
)  # fmt: skip
def test_the_host_of_the_connection(hosts: list[bytes], fits: bool) -> None:
    loop = asyncio.new_event_loop()
    place = Place("a.example", 80, ("1.1.1.1", 1), ("2.2.2.2", 80), loop.create_future())
    loop.close()
    request = Request.make("GET", "http://a.example/")
    request.headers = Headers([(b"host", host) for host in hosts])
    assert (disagreement(request, place) is None) == fits


@pytest.mark.parametrize(
    ("authority", "listed"),
    [(b"b.example", "network: hosts: [{host: b.example, ports: [80]}]"),
     (b"B.example:8080", "network: hosts: [{host: b.example, ports: [8080]}]"),
     (b"a.example:80", "network: hosts: [{host: a.example, ports: [80]}]"),
     (b"x y", "list the host itself: that host")],
)  # fmt: skip
def test_a_whole_address_as_for_a_proxy_is_refused_with_the_next_step(authority: bytes, listed: str) -> None:
    loop = asyncio.new_event_loop()
    place = Place("a.example", 3128, ("1.1.1.1", 1), ("2.2.2.2", 3128), loop.create_future())
    loop.close()
    request = Request.make("GET", "http://b.example/")
    request.headers = Headers([(b"host", authority)])
    request.data.authority = authority
    verdict = disagreement(request, place)
    assert verdict is not None
    assert (verdict.action, verdict.by) == ("block", "name")
    assert "as to a proxy" in verdict.reason
    assert verdict.allow is not None
    assert "http_proxy" in verdict.allow
    assert verdict.allow.endswith(listed)
    request.data.authority = b"a.example:3128"
    request.headers = Headers([(b"host", b"a.example:3128")])
    assert disagreement(request, place) is None, "its own whole address is one"
