"""Connections before there is a request: looked at, refused with a reason, or passed through."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from capsule.egress import connections as module
from capsule.egress.connections import Refused
from tests.egress.certificates import Pair
from tests.egress.supervisor import host
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

needs_stage = pytest.mark.needs("userns", "unshare", "curl")


@needs_stage
def test_what_nobody_looks_at_passes_through(
    session: Any, upstream: Upstream, outside: Pair, tmp_path: Path
) -> None:
    """The program sees the upstream's own certificate."""
    inside = session(host("a.example", 443, inspect="auto"), **to(upstream))
    trust = tmp_path / "outside.pem"
    trust.write_bytes(outside.pem)
    done = inside.stage.run("curl", "-sS", "-m", "20", "--cacert", str(trust), "https://a.example/passed")
    assert done.out == "hello /passed"
    entry = inside.run.record("egress.tcp", host="a.example")
    assert entry["decision"]["action"] == "allow"
    assert entry["tcp"]["sni"] == "a.example"
    assert entry["tcp"]["address"] == upstream.address
    assert entry["tcp"]["bytes_in"] > 500
    assert not inside.run.records("egress.http")
    assert inside.curl("https://a.example/").code == 60, "the positive control: our authority is not asked"


@needs_stage
@pytest.mark.parametrize("inspect", ["auto", "always"])
def test_the_server_name_must_be_the_resolved_one(session: Any, upstream: Upstream, inspect: str) -> None:
    hosts = [host(name, 443, inspect=inspect) for name in ("a.example", "b.example")]
    inside = session(*hosts, **to(upstream))
    before = upstream.accepted
    done = inside.client("secure", "a.example", "b.example")
    assert done.code != 0
    entry = inside.run.record("egress.tcp", host="a.example")
    assert entry["decision"]["by"] == "name"
    assert entry["tcp"]["sni"] == "b.example"
    assert upstream.accepted == before


@needs_stage
def test_neither_tls_nor_http(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 443, 80, 5432), **to(plain))
    before = plain.accepted
    assert inside.client("raw", "a.example", "5432", "3", given="\\x00\\x00binary").out.startswith(
        ("<end>", "<Conn")
    )
    entry = inside.run.record("egress.tcp", port=5432)
    assert entry["decision"] == {
        "action": "block", "by": "protocol", "reason": "neither TLS nor HTTP came on an inspected port",
        "allow": "give the host an entry of its own with `inspect: never`",
    }  # fmt: skip
    assert plain.accepted == before


@needs_stage
def test_never_looked_at_and_the_server_speaks_first(session: Any) -> None:
    """As databases and mail do."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = server.accept()
        with sock:
            sock.sendall(b"220 ready\n")
            sock.sendall(b"you said " + sock.recv(100))

    thread = threading.Thread(target=serve)
    thread.start()
    place = f"127.0.0.1:{server.getsockname()[1]}"
    inside = session(
        host("db.example", 5432, inspect="never"),
        upstreams=[{"host": "db.example", "address": place, "origin": None}],
    )
    out = inside.client("raw", "db.example", "5432", "3", given="hello").out
    assert out == "220 ready\nyou said hello<end>"
    thread.join(5)
    server.close()
    assert inside.run.record("egress.tcp", host="db.example")["tcp"]["bytes_out"] == 5


@needs_stage
def test_an_address_nobody_named(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    assert inside.client(
        "raw", "93.184.216.34", "80", "3", given="GET / HTTP/1.1\\r\\n\\r\\n"
    ).out.startswith("<")
    entry = inside.run.record("egress.tcp", host="93.184.216.34")
    assert entry["decision"]["by"] == "address"
    assert "stands for no name" in entry["decision"]["reason"]


@needs_stage
def test_a_port_that_the_host_does_not_have(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), host("b.example", 80), **to(upstream))
    inside.client("raw", "a.example", "80", "3", given="GET / HTTP/1.1\\r\\n\\r\\n")
    entry = inside.run.record("egress.tcp", host="a.example", port=80)
    assert entry["decision"]["action"] == "block"


@needs_stage
def test_a_private_address_is_refused_with_its_reason(session: Any) -> None:
    inside = session(host("10.1.2.3", 80))
    done = inside.curl("-w", " %{http_code}", "http://10.1.2.3/x")
    assert done.out.endswith("403")
    assert "private: true" in done.out
    assert inside.run.record("egress.http", path="/x")["decision"]["by"] == "address"


@needs_stage
def test_the_program_is_named_when_the_supervisor_says_so(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    script = (
        "import socket,sys; s=socket.socket(); s.bind(('127.0.0.1', 45123)); s.connect((sys.argv[1], 80)); "
        "s.sendall(b'GET /who HTTP/1.1\\r\\nHost: a.example\\r\\n\\r\\n'); print(s.recv(100))"
    )
    inside.stage.run("python3", "-c", "import socket; print(socket.gethostbyname('a.example'))")
    address = inside.run.record("egress.dns", name="a.example", qtype="A")["dns"]["answer"]
    flow = {"type": "flow", "source": "127.0.0.1:45123", "target": f"{address}:80", "pid": 7,
            "program": "/usr/bin/python3", "argv": ["python3", "-c"]}  # fmt: skip
    inside.run.send(flow)
    inside.stage.run("python3", "-c", script, address)
    entry = inside.run.record("egress.http", path="/who")
    assert entry["program"] == {
        "path": "/usr/bin/python3",
        "pid": 7,
        "argv": ["python3", "-c"],
        "name": "python3",
    }


async def look(*pieces: bytes) -> tuple[bytes, Any]:
    """What is made of these first bytes."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        looking = asyncio.create_task(module._look(near))
        for piece in pieces:
            far.sendall(piece)
            await asyncio.sleep(0.02)
        if not pieces or pieces[-1] == b"":
            far.close()
        return await looking


@pytest.mark.asyncio
async def test_first_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await look(b"GET / HT"))[1] is None
    for pieces, reason in (
        ((b"\x16",), "within"),
        ((b"\x16\x03\x01\x00\x20",), "within"),
        ((b"\x00",), "neither"),
        ((b"\x7fELF",), "neither"),
        ((b"\x16\x03\x01\x00\x05hello",), "ClientHello"),
        ((b"",), "closed"),
    ):
        monkeypatch.setattr(module, "FIRST_BYTES", 0.3)
        with pytest.raises(Refused, match=reason):
            await look(*pieces)
