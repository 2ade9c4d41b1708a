"""CONNECT from inside: a tunnel is a direct connection to what it names, and nothing more."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from capsule.egress import tunnel as module
from capsule.egress.tunnel import Wish, WishError, read_wish
from tests.egress.certificates import Pair
from tests.egress.supervisor import host
from tests.egress.test_deciding import rules
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

needs_stage = pytest.mark.needs("userns", "unshare", "curl")
PROXY = "proxy.example"


def through(*arguments: str) -> tuple[str, ...]:
    return ("-x", f"http://{PROXY}:80", *arguments)


@needs_stage
def test_a_program_with_proxy_variables(session: Any, upstream: Upstream) -> None:
    """The request is inspected as one without them, and says how it came."""
    inside = session(host("a.example", 443), host(PROXY, 80), **to(upstream))
    done = inside.stage.run(
        "curl", "-sS", "-m", "20", "--cacert", str(inside.ca), "https://a.example/tunnelled",
        env={"HTTPS_PROXY": f"http://{PROXY}:80"},
    )  # fmt: skip
    assert done.out == "hello /tunnelled", done
    entry = inside.run.record("egress.http", path="/tunnelled")
    assert (entry["http"]["host"], entry["http"]["port"], entry["http"]["via"]) == (
        "a.example",
        443,
        f"{PROXY}:80",
    )
    assert entry["decision"]["by"] == "grant"
    direct = inside.curl("https://a.example/direct")
    assert direct.out == "hello /direct"
    assert "via" not in inside.run.record("egress.http", path="/direct")["http"]


@needs_stage
def test_what_nobody_looks_at_passes_through(
    session: Any, upstream: Upstream, outside: Pair, tmp_path: Path
) -> None:
    inside = session(host("a.example", 443, inspect="auto"), host(PROXY, 80), **to(upstream))
    trust = tmp_path / "outside.pem"
    trust.write_bytes(outside.pem)
    argv = ("curl", "-sS", "-m", "20", "--cacert", str(trust))
    assert inside.stage.run(*argv, *through("https://a.example/passed")).out == "hello /passed"
    entry = inside.run.record("egress.tcp", host="a.example")
    assert (entry["tcp"]["sni"], entry["tcp"]["via"]) == ("a.example", f"{PROXY}:80")


@needs_stage
@pytest.mark.parametrize("inspect", ["auto", "always"])
def test_no_way_around_the_server_name(session: Any, upstream: Upstream, inspect: str) -> None:
    hosts = [host(name, 443, inspect=inspect) for name in ("a.example", "b.example")]
    inside = session(*hosts, host(PROXY, 80), **to(upstream))
    before = upstream.accepted
    done = inside.curl(*through("--connect-to", "b.example:443:a.example:443", "https://b.example/x"))
    assert done.code != 0
    entry = inside.run.record("egress.tcp", host="a.example")
    assert (entry["decision"]["by"], entry["tcp"]["sni"]) == ("name", "b.example")
    assert upstream.accepted == before


@needs_stage
def test_methods_and_paths_hold_inside(session: Any, upstream: Upstream) -> None:
    inside = session(
        host("a.example", 443, methods=["GET"], paths=["/open/**"]), host(PROXY, 80), **to(upstream)
    )
    assert inside.curl(*through("https://a.example/open/x")).out == "hello /open/x"
    before = len(upstream.seen)
    for what in (("https://a.example/closed",), ("-d", "x", "https://a.example/open/x")):
        done = inside.curl(*through("-w", " %{http_code}", *what))
        assert done.out.endswith("403"), done
    assert len(upstream.seen) == before


@needs_stage
@pytest.mark.parametrize(
    ("target", "status", "by", "reason"),
    [
        ("evil.example:443", "403", "default", "no host entry lists evil.example"),
        ("a.example:22", "403", "grant", "no entry of a.example has port 22"),
        ("169.254.169.254:80", "403", "grant", "no host entry lists 169.254.169.254"),
        ("localhost:443", "403", "address", "the sandbox's own loopback"),
        ("2130706433:443", "400", "protocol", "spelling of the address 127.0.0.1"),
        ("[::1]:443", "400", "protocol", "IPv6"),
        ("a.example", "400", "protocol", "names no port"),
        ("user@a.example:443", "400", "protocol", "has a user in it"),
    ],
)
def test_what_is_not_allowed_is_refused_and_explained(
    session: Any, plain: Upstream, target: str, status: str, by: str, reason: str
) -> None:
    inside = session(host("a.example", 443), host(PROXY, 80), **to(plain, PROXY))
    before = plain.accepted
    request = f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n"
    out = inside.client("raw", PROXY, "80", "5", given=request).out
    assert out.startswith(f"HTTP/1.1 {status} "), out
    assert reason in out
    assert f"x-capsule-blocked: {by}" in out.splitlines()
    assert out.endswith("<end>")
    entry = inside.run.frame(lambda f: f.get("entry", {}).get("decision", {}).get("action") == "block")[
        "entry"
    ]
    assert entry["decision"]["by"] == by
    assert reason in entry["decision"]["reason"]
    assert entry["tcp"]["via"] == f"{PROXY}:80"
    assert plain.accepted == before


@needs_stage
def test_a_rule_on_names_holds(session: Any, upstream: Upstream) -> None:
    """A direct connection would have had to ask for the name first."""
    rule = '  - id: no-a\n    on: dns\n    when: dns.name == "a.example"\n    action: block\n    reason: not that one\n'
    inside = session(host("a.example", 443), host(PROXY, 80), **to(upstream), **rules(rule))
    done = inside.curl(*through("https://a.example/x"))
    assert done.code == 56, done
    entry = inside.run.record("egress.tcp", host="a.example")
    assert (entry["decision"]["rule"]["id"], entry["decision"]["reason"]) == ("no-a", "not that one")


@needs_stage
def test_raw_bytes_are_no_tunnel(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 443), host(PROXY, 80), **to(plain))
    before = plain.accepted
    request = "CONNECT a.example:443 HTTP/1.1\\r\\nHost: a.example:443\\r\\n\\r\\n\\x00binary"
    out = inside.client("raw", PROXY, "80", "5", given=request).out
    assert out.startswith("HTTP/1.1 200 "), out
    assert inside.run.record("egress.tcp", host="a.example")["decision"]["by"] == "protocol"
    assert plain.accepted == before


@needs_stage
def test_a_host_that_does_not_answer(session: Any, upstream: Upstream) -> None:
    """The failure is recorded as of the host that the tunnel is to."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        place = f"127.0.0.1:{sock.getsockname()[1]}"
    inside = session(
        host("a.example", 443, inspect="never"), host(PROXY, 80),
        upstreams=[{"host": "a.example", "address": place, "origin": None}],
    )  # fmt: skip
    assert inside.curl(*through("https://a.example/x")).code != 0
    assert "Connection refused" in inside.run.record("egress.tcp", host="a.example")["tcp"]["error"]


@needs_stage
def test_one_tunnel_in_another(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), host(PROXY, 80), **to(plain))
    head = "CONNECT {0}:80 HTTP/1.1\\r\\nHost: {0}:80\\r\\n\\r\\n"
    request = head.format("a.example") + head.format(PROXY)
    out = inside.client("raw", PROXY, "80", "5", given=request).out
    assert "HTTP/1.1 400" in out, out
    assert (
        "a tunnel within a tunnel" in inside.run.record("egress.tcp", host="a.example")["decision"]["reason"]
    )
    plain_inside = (
        head.format("a.example") + "GET /p HTTP/1.1\\r\\nHost: a.example\\r\\nConnection: close\\r\\n\\r\\n"
    )
    assert "hello /p" in inside.client("raw", PROXY, "80", "5", given=plain_inside).out, (
        "the positive control"
    )


@needs_stage
def test_within_tls(session: Any, upstream: Upstream) -> None:
    """There it is refused, on the log and in words."""
    inside = session(host("a.example", 443), **to(upstream))
    before = len(upstream.seen)
    request = "CONNECT a.example:443 HTTP/1.1\\r\\nHost: a.example:443\\r\\n\\r\\n"
    out = inside.client("secure", "a.example", "a.example", given=request).out
    assert out.startswith("HTTP/1.1 400 "), out
    assert "first request" in out
    assert inside.client("connect_h2", "a.example", "a.example:443").out == "400 protocol\n"
    for entry in (
        inside.run.record("egress.http", method="CONNECT"),
        inside.run.record("egress.tcp", port=443),
    ):
        assert (entry["decision"]["action"], entry["decision"]["by"]) == ("block", "protocol")
        assert "first request" in entry["decision"]["reason"]
    assert len(upstream.seen) == before


async def wish(*pieces: bytes) -> Wish:
    """What is made of these first bytes."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        reading = asyncio.create_task(read_wish(near, pieces[0]))
        for piece in pieces[1:]:
            await asyncio.sleep(0.02)
            far.sendall(piece)
        if pieces[-1] == b"":
            far.close()
        return await reading


@pytest.mark.asyncio
async def test_heads() -> None:
    found = await wish(b"CONNECT a.exam", b"ple:443 HTTP/1.1\r\nHost: A.example\r\nX: 1\r\n\r\n\x16\x03")
    assert (found.host, found.port, found.rest) == ("a.example", 443, b"\x16\x03")
    old = await wish(b"CONNECT a.example:8443 HTTP/1.0\r\n\r\n")
    assert (old.host, old.port, old.rest) == ("a.example", 8443, b"")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"CONNECT a.example:443 HTTP/1.1\r\n\r\n", "not a request"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n", "names two hosts"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:80\r\n\r\n", "names two hosts"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", "not a request"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nab", "a body"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n", "a body"),
        (b"CONNECT  a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", "not a request"),
        (b"CONNECT a.example:99999 HTTP/1.1\r\nHost: a.example\r\n\r\n", "port"),
        (b"CONNECT http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "port"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nX: " + b"y" * 70_000, "over"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nX", "closed"),
    ],
)  # fmt: skip
async def test_heads_that_are_refused(head: bytes, reason: str) -> None:
    with pytest.raises(WishError, match=reason):
        await wish(head, b"")


@pytest.mark.asyncio
async def test_a_head_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD", 0.2)
    with pytest.raises(WishError, match="within"):
        await wish(b"CONNECT a.example:443 HT")
