"""What can go wrong with the upstream and with time: said to the program, recorded, and never worked around."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.egress.certificates import DAY, NOW, Pair, make
from tests.egress.supervisor import host
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")
HOUR = datetime.timedelta(hours=1)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("expired", "certificate has expired"),
        ("early", "certificate is not yet valid"),
        ("name", "hostname mismatch"),
        ("stranger", "unable to get local issuer certificate"),
        ("own", "self-signed certificate"),
    ],
)
def test_a_bad_certificate(session: Any, outside: Pair, tmp_path: Path, what: str, said: str) -> None:
    """The program is told which, and nothing of its request goes out."""
    names = ("a.example",)
    pair = {
        "expired": lambda: make("a.example", outside, names=names, end=NOW - HOUR),
        "early": lambda: make("a.example", outside, names=names, start=NOW + DAY),
        "name": lambda: make("a.example", outside, names=("other.example",)),
        "stranger": lambda: make("a.example", make("stranger"), names=names),
        "own": lambda: make("a.example", names=names),
    }[what]()
    upstream = Upstream(pair.write(tmp_path, "leaf"))
    inside = session(host("a.example", 443), **to(upstream))
    for version in ("--http1.1", "--http2"):
        done = inside.curl(version, "-w", " %{http_code}", "https://a.example/x")
        assert done.out.endswith("502"), done
        assert said in done.out.lower().replace("self signed", "self-signed"), done
    assert not upstream.seen
    assert said in inside.run.record("egress.http", path="/x")["http"]["error"].lower().replace(
        "self signed", "self-signed"
    )
    upstream.close()


def test_an_upstream_that_does_not_speak_tls(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 443), **to(plain))
    done = inside.curl("-w", " %{http_code}", "https://a.example/x")
    assert done.out.endswith("502"), done


def test_an_upstream_that_is_not_there(session: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    inside = session(
        host("a.example", 443),
        upstreams=[{"host": "a.example", "address": f"127.0.0.1:{port}", "origin": None}],
    )
    done = inside.curl("-w", " %{http_code}", "https://a.example/x")
    assert "Connection refused" in done.out
    assert done.out.endswith("502")
    again = inside.curl("-w", " %{http_code}", "https://a.example/1", "https://a.example/2")
    assert again.out.count("Connection refused") == 2, "a connection that failed is tried again"


def test_a_name_that_does_not_resolve_outside(session: Any) -> None:
    inside = session(host("nowhere.invalid", 80))
    done = inside.curl("-w", " %{http_code}", "http://nowhere.invalid/x")
    assert "does not resolve" in done.out
    assert done.out.endswith("502")


def test_a_program_that_does_not_trust_us(session: Any, upstream: Upstream, tmp_path: Path) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    before = upstream.accepted
    assert inside.stage.run("curl", "-sS", "-m", "20", "https://a.example/x").code == 60
    entry = inside.run.record("egress.tcp", host="a.example")
    assert "TLS with the program failed" in entry["decision"]["reason"]
    assert upstream.accepted == before


def test_the_protocol_of_the_upstream_is_mirrored(session: Any, outside: Pair, tmp_path: Path) -> None:
    """From the second connection on, which saves a translation."""
    upstream = Upstream(
        make("a.example", outside, names=("a.example",)).write(tmp_path, "leaf"), ("http/1.1",)
    )
    inside = session(host("a.example", 443), **to(upstream))
    versions = [
        inside.curl("-o", "/dev/null", "-w", "%{http_version}", "https://a.example/x").out for _ in range(2)
    ]
    assert versions == ["2", "1.1"]
    upstream.close()


def test_a_head_that_takes_too_long(session: Any, plain: Upstream) -> None:
    """Slow-loris: the first byte came, the rest does not."""
    inside = session(host("a.example", 80), **to(plain))
    out = inside.client(
        "raw", "a.example", "80", "36", given="GET / HTTP/1.1\\r\\nHost: a.ex", timeout=60
    ).out
    assert out == "<end>"
    assert (
        "head of a request took more than"
        in inside.run.record("egress.tcp", host="a.example")["decision"]["reason"]
    )


def test_an_upstream_whose_head_takes_too_long(session: Any, plain: Upstream) -> None:
    """The program is told, and the record does not lay it to the program."""
    inside = session(host("a.example", 80), **to(plain))
    done = inside.stage.run(
        "curl", "-sS", "-m", "45", "-w", " %{http_code}", "http://a.example/drip-head", timeout=60
    )
    assert done.out.endswith("502"), done
    assert "the upstream took more than" in done.out
    found = inside.run.record("egress.http", path="/drip-head")
    assert "the upstream took more than" in found["http"]["error"]
    assert found["decision"]["action"] == "allow"
    assert not inside.run.records("egress.tcp")


@pytest.mark.parametrize("order", [("in", "out"), ("out", "in")])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_private_is_of_the_entry_that_lets_a_request_through(
    session: Any, outside: Pair, tmp_path: Path, order: tuple[str, str], version: str
) -> None:
    """Also on one connection, where the next request could ride on what the last one opened."""
    place = "127.0.0.77"
    pair = make(place, outside, names=(place,)).write(tmp_path, "leaf")
    server = Upstream(pair, address=(place, 5432))
    inside = session(
        host(place, 5432, paths=["/in/**"], private=True), host(place, 5432, paths=["/out/**"], private=False)
    )
    urls = [f"https://{place}:5432/{which}/x" for which in order]
    done = inside.curl(f"--http{version}", "-w", " %{http_code} %{num_connects};", *urls)
    server.close()
    told = dict(zip(order, done.out.split(";"), strict=False))
    assert "hello /in/x 200" in told["in"], done
    assert "needs `private: true`" in told["out"], done
    assert " 403 " in told["out"]
    assert [path for _, path, _ in server.seen] == ["/in/x"]
    assert inside.run.record("egress.http", path="/out/x")["decision"]["by"] == "address"
