"""One host, said once: what `test_layers` refuses on the wire, here alone; and front ends that look beside the Host."""

from __future__ import annotations

import asyncio
import http.client
import time
from typing import Any

import pytest
from mitmproxy.http import Headers, Request

from capsule.egress.addressed import ROUTING, disagreement
from capsule.egress.story import Place
from tests.egress.supervisor import host
from tests.egress.upstream import Upstream


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


def place_of(name: str, port: int) -> Place:
    loop = asyncio.new_event_loop()
    place = Place(name, port, ("1.1.1.1", 1), ("2.2.2.2", port), loop.create_future())
    loop.close()
    return place


@pytest.mark.parametrize(
    ("field", "value", "fits"),
    [
        *((name.decode(), "b.example", False) for name in sorted(ROUTING)),
        ("X-Forwarded-Host", "a.example", True),
        ("X-Forwarded-Host", "A.example:80, a.example", True),
        ("X-Forwarded-Host", "a.example, b.example", False),
        ("X-Forwarded-Host", "a.example:81", False),
        ("X-Forwarded-Host", "127.0.0.1", False),
        ("X-Forwarded-Host", "a.example@b.example", False),
        ("X-Forwarded-Host", "", True),
        ("X_Forwarded_Host", "b.example", False),
        ("X.Forwarded.Host", "b.example", False),
        ("X-Forwarded~Host", "b.example", False),
        ("Forwarded", "for=192.0.2.1;host=a.example;proto=https, for=192.0.2.2", True),
        ("Forwarded", 'for="[2001:db8::1]:4711" ; Host = "a.example:80"', True),
        ("Forwarded", "for=192.0.2.1;host=b.example", False),
        ("Forwarded", "for=192.0.2.1;host=a.example, HOST=b.example", False),
        ("Forwarded", 'host="\\b.example"', False),
        ("Forwarded", 'for="x;host=b.example', False),
        ("Forwarded", "for=x host=b.example", False),
        ("Forwarded", 'for="x;host=b.example"', True),
        ("X-Original-URL", "/x?u=https://b.example/", True),
        ("X-Original-URL", "http://b.example/x", False),
        ("X-Rewrite-URL", "//b.example/x", False),
        ("X-Original-URI", "/x, https:\\\\b.example", False),
        ("X-Rewrite-URL", "https://a.example/x", True),
        ("X-Forwarded-For", "b.example", True),
        ("Origin", "https://b.example", True),
    ],
)
def test_a_field_by_which_front_ends_route_says_the_same_host(field: str, value: str, fits: bool) -> None:
    request = Request.make("GET", "http://a.example/")
    request.headers = Headers([(b"host", b"a.example"), (field.encode(), value.encode())])
    verdict = disagreement(request, place_of("a.example", 80))
    assert (verdict is None) == fits, verdict
    if verdict is not None:
        assert (verdict.action, verdict.by) == ("block", "name")
        assert verdict.reason.startswith(f"header {field.lower()} ")


@pytest.mark.parametrize(
    ("method", "override", "value", "fits"),
    [
        ("COPY", None, "https://b.example/x", False),
        ("MOVE", None, "http://a.example:81/x", False),
        ("MOVE", None, "http://a.example/x", True),
        ("COPY", None, "/x", True),
        ("POST", None, "https://b.example/x", True),
        ("POST", "move", "https://b.example/x", False),
    ],
)
def test_where_webdav_writes_is_the_same_host(
    method: str, override: str | None, value: str, fits: bool
) -> None:
    request = Request.make(method, "http://a.example/")
    fields = [(b"host", b"a.example"), (b"Destination", value.encode())]
    request.headers = Headers([*fields, *([(b"X-HTTP-Method", override.encode())] if override else [])])
    assert (disagreement(request, place_of("a.example", 80)) is None) == fits


def test_a_long_field_takes_little_time() -> None:
    """What a program sends is matched in one pass."""
    request = Request.make("GET", "http://a.example/")
    for value in (b" ," * 30_000 + b'"', b"a=b;" * 15_000 + b"=", b'a="' + b"\\x" * 30_000):
        request.headers = Headers([(b"host", b"a.example"), (b"forwarded", value)])
        began = time.process_time()
        assert disagreement(request, place_of("a.example", 80)) is not None
        assert time.process_time() - began < 5


ROUTED = [
    ("X-Forwarded-Host", "b.example"), ("X_Forwarded-Host", "b.example"), ("X-Host", "b.example"),
    ("X-Original-Host", "b.example"), ("Forwarded", "for=1.2.3.4;host=b.example"),
]  # fmt: skip


@pytest.mark.needs("userns", "unshare", "curl")
@pytest.mark.parametrize(("field", "value"), ROUTED)
def test_a_front_end_is_not_led_to_another_host(
    session: Any, plain: Upstream, field: str, value: str
) -> None:
    """Two hosts behind one front end; the policy lists one. Without capsule the field leads to the other."""
    straight = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=20)
    straight.request("GET", "/routed", headers={"Host": "a.example", field: value})
    assert straight.getresponse().read() == b"the page of b.example", "the control"
    straight.close()
    inside = session(
        host("a.example", 80), upstreams=[{"host": "a.example", "address": plain.address, "origin": None}]
    )
    before = len(plain.seen)
    done = inside.curl("-H", f"{field}: {value}", "-w", " %{http_code}", "http://a.example/routed")
    assert done.out.endswith(" 403"), done
    assert "b.example" in done.out
    assert "capsule blocked" in done.out
    assert len(plain.seen) == before, "nothing of it went out"
    assert inside.run.record("egress.http", path="/routed")["decision"]["by"] == "name"
    same = value.replace("b.example", "a.example")
    done = inside.curl("-H", f"{field}: {same}", "-w", " %{http_code}", "http://a.example/routed")
    assert done.out == "the page of a.example 200", "who says the same host is let through"
