"""Every protocol through the really started daemon: what arrives outside, what comes back, what is recorded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.egress import clients
from tests.egress.supervisor import Daemon, host
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")


def to(upstream: Upstream, name: str = "a.example") -> dict[str, Any]:
    return {"upstreams": [{"host": name, "address": upstream.address, "origin": None}]}


def test_http2_both_ways(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    done = inside.curl("-w", "%{http_version}", "https://a.example/x")
    assert done.out == "hello /x2"
    entry = inside.run.record("egress.http", path="/x")
    assert entry["http"]["version"] == "2"
    assert entry["http"]["status"] == 200
    assert entry["http"]["address"] == upstream.address
    assert entry["http"]["response"]["size"] == len("hello /x")
    assert entry["decision"]["action"] == "allow"


def test_an_upstream_for_a_suffix_is_used(session: Any, upstream: Upstream) -> None:
    inside = session(host("*.w.example", 443), **to(upstream, "*.w.example"))
    assert inside.curl("https://x.w.example/wild").out == "hello /wild"
    assert inside.run.record("egress.http", path="/wild")["http"]["address"] == upstream.address


def test_plain_http_and_absolute_form(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    assert inside.curl("http://a.example/p").out == "hello /p"
    request = "GET http://a.example/abs?q=1 HTTP/1.1\\r\\nHost: a.example\\r\\nConnection: close\\r\\n\\r\\n"
    assert "hello /abs?q=1" in inside.client("raw", "a.example", "80", given=request).out
    assert plain.seen[-1][1] == "/abs?q=1"


def test_grpc_streams_both_ways(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    done = inside.client("grpc", "a.example")
    assert done.out == "message 1;message 2;message 3;message 4;message 5; {'grpc-status': '0'}\n", done
    assert inside.run.record("egress.http", path="/grpc.Echo/Chat")["http"]["grpc"] is True


def test_grpc_messages_do_not_wait_for_the_next(session: Any, upstream: Upstream) -> None:
    """Each ends with what may be the beginning of the value, in some spelling; nobody says more before it is there."""
    held = {"value": "very-secret-value", "placeholder": "capsule-secret-token-" + "0" * 32, "expires": None}
    spec = {"name": "token", "from": {"kind": "env"}, "to": ["a.example"], "as": "header", "field": "x-key",
            "user": None, "env": "TOKEN", "origin": None}  # fmt: skip
    inside = session(host("a.example", 443), **to(upstream), secrets={"token": held}, plan_secrets=[spec])
    said = ("m v", "m ve", "m ver", "m 7", "m 76", "", "m d", "plain")
    done = inside.client("grpc_says", "a.example", *said)
    assert done.out == f"{len(said)}\n", done
    sent = next(headers for _, path, headers in upstream.seen if path == "/grpc.Echo/Says")
    assert sent["grpc-accept-encoding"] == "identity"


def test_websocket(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    done = inside.client("websocket", "a.example")
    assert done.out.splitlines() == ["101", "True", "True", "True", r"b'\x88\x00'"], done
    entry = inside.run.record("egress.http", path="/ws")
    assert entry["http"]["websocket"] is True
    assert entry["http"]["status"] == 101
    assert entry["http"]["body"]["size"] > 40000
    told = inside.run.record("egress.websocket")["websocket"]
    assert told["http_id"] == entry["event"]["id"]
    assert (told["messages_out"], told["bytes_out"]) == (told["messages_in"], told["bytes_in"]) == (3, 40006)
    assert (told["host"], told["closed_by"]) == ("a.example", "program")


@pytest.mark.parametrize(
    ("path", "version", "status"),
    [
        ("/believed/nothing", "13", "502"),
        ("/believed/said", "13", "502"),
        ("/believed/said", "777", "400"),
        ("/believed/agreed", "13", "101"),
    ],
)
def test_no_request_is_spoken_behind_an_upgrade(
    session: Any, plain: Upstream, path: str, version: str, status: str
) -> None:
    """It would be decided by nobody: neither `methods` nor `paths` nor rules would hold for it."""
    inside = session(host("a.example", 80, methods=["GET"], paths=["/believed/*"]), **to(plain))
    done = inside.client("behind_an_upgrade", "a.example", path, version)
    assert done.out.startswith(status), done
    assert not [target for _, target, _ in plain.seen if target == "/behind"]
    found = inside.run.record("egress.http", path=path)
    assert (found["decision"]["action"], found["decision"]["by"]) == ("block", "protocol"), found
    assert "WebSocket" in found["decision"]["reason"]


def test_server_sent_events_come_one_by_one(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    done = inside.curl(
        "-N", "--http1.1", "-w", "%{time_starttransfer} %{time_total}", "https://a.example/sse"
    )
    *events, times = done.out.split("\n\n")
    assert events == [f"data: {number}" for number in range(5)]
    first, last = map(float, times.split())
    assert last - first > 0.5


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_refused_upload_is_answered_before_its_body(session: Any, upstream: Upstream, version: str) -> None:
    inside = session(host("a.example", 443, methods=["GET"]), **to(upstream))
    before = upstream.accepted
    done = inside.stage.run(
        "sh", "-c",
        f"head -c 30000000 /dev/zero | curl -sS -m 20 --cacert {inside.ca} {version} -T - -w ' %{{http_code}}' "
        "https://a.example/size; true",
    )  # fmt: skip
    assert "capsule blocked PUT https://a.example/size" in done.out, done
    assert done.out.endswith("403")
    assert upstream.accepted == before


@pytest.mark.slow
@pytest.mark.parametrize(("version", "size"), [("--http1.1", 1_000_000_000), ("--http2", 200_000_000)])
def test_large_bodies_are_not_kept(
    session: Any, upstream: Upstream, daemon: Daemon, version: str, size: int
) -> None:
    """1 GB each way (the server's HTTP/2 is slow: 200 MB there): what is resident stays far below it."""
    inside = session(host("a.example", 443), **to(upstream))
    inside.curl("https://a.example/warm")
    number = inside.stage.start(
        "sh", "-c",
        f"head -c {size} /dev/zero | curl -sS -m 120 --cacert {inside.ca} {version} -T - https://a.example/size"
        f" && curl -sS -m 120 --cacert {inside.ca} {version} https://a.example/bytes/{size} | wc -c",
        timeout=250,
    )  # fmt: skip
    most = 0
    while number not in inside.stage._answers:
        most = max(most, daemon.memory())
        time.sleep(0.05)
    done = inside.stage.finish(number)
    assert done.out.replace("\n", " ").split() == [f"{size}{size}"], done
    assert most < 150_000_000, most


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_slow_reader_does_not_fill_the_memory(
    session: Any, upstream: Upstream, daemon: Daemon, version: str
) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    before = daemon.memory()
    number = inside.stage.start(
        "curl", "-sS", "-m", "3", "--limit-rate", "1M", "--cacert", str(inside.ca), version, "-o", "/dev/null",
        "https://a.example/bytes/400000000",
    )  # fmt: skip
    time.sleep(2)
    grown = daemon.memory() - before
    inside.stage.finish(number)
    assert grown < 50_000_000, grown


@pytest.mark.parametrize(
    "when", ["before", "in-head", "after-head", "in-body", "in-chunk", "in-chunk-size", "in-trailers"]
)
def test_an_upstream_that_resets(session: Any, plain: Upstream, when: str) -> None:
    inside = session(host("a.example", 80), **to(plain))
    done = inside.curl("-w", " %{http_code}", f"http://a.example/reset/{when}")
    if when in ("before", "in-head"):
        assert done.out.endswith("502"), done
    else:
        assert done.code != 0, done
    assert "error" in inside.run.record("egress.http", path=f"/reset/{when}")["http"]
    assert inside.curl("http://a.example/after").out == "hello /after"


@pytest.mark.parametrize("path", ["both-lengths", "endless-head", "unasked-upgrade"])
def test_an_answer_that_cannot_be_trusted(session: Any, plain: Upstream, path: str) -> None:
    inside = session(host("a.example", 80), **to(plain))
    done = inside.curl("-w", " %{http_code}", f"http://a.example/{path}")
    assert "freely spoken" not in done.out
    assert done.out.endswith("502") or done.code != 0, done
    found = inside.run.record("egress.http", path=f"/{path}")
    assert "error" in found["http"] or found["decision"]["by"] == "protocol", found


def test_a_reset_stream_leaves_the_others(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    done = inside.curl("-Z", "--http2", "https://a.example/reset", "https://a.example/fine")
    assert "hello /fine" in done.out


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\\r\\nHost: a.example\\r\\nContent-Length: 3\\r\\n"
         "Transfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n", "400"),
        ("GET / HTTP/1.1\\r\\nHost: a.example\\r\\nContent-Length: 3\\r\\nContent-Length: 4\\r\\n\\r\\nabc", "400"),
        ("GET / HTTP/1.1\\r\\nHost: a.example\\r\\nTransfer-Encoding: chunked, identity\\r\\n\\r\\n", "400"),
        ("GET / HTTP/1.1\\r\\nHost: a.example\\r\\nTransfer-Encoding : chunked\\r\\n\\r\\n0\\r\\n\\r\\n", "400"),
        ("GET / HTTP/1.1\\r\\nHost: a.example\\r\\n X: folded\\r\\n\\r\\n", None),
        ("GET / HTTP/1.1\\r\\nHost: b.example\\r\\n\\r\\n", "403"),
        ("GET / HTTP/1.1\\r\\nHost: a.example\\r\\nHost: b.example\\r\\n\\r\\n", "403"),
        ("GET / HTTP/1.1\\r\\n\\r\\n", "403"),
        ("GET http://b.example/ HTTP/1.1\\r\\nHost: a.example\\r\\n\\r\\n", "403"),
        ("GET / HTTP/1.1\\r\\nHost: a.example:81\\r\\n\\r\\n", "403"),
        ("CONNECT b.example:443 HTTP/1.1\\r\\nHost: b.example:443\\r\\n\\r\\n", "403"),
        ("NONSENSE\\r\\n\\r\\n", "400"),
        ("GET / HTTP/1.1\\r\\nHost: a.example\\r\\nX: " + "y" * 200_000, "431"),
    ],
    ids=["both", "two-lengths", "te-order", "te-space", "folded", "host", "two-hosts", "no-host", "absolute", "port",
         "connect", "nonsense", "long-head"],
)  # fmt: skip
def test_requests_that_are_refused(
    session: Any, plain: Upstream, request_text: str, status: str | None
) -> None:
    """Nothing of them is seen outside, but for the one that is plain HTTP."""
    inside = session(host("a.example", 80), **to(plain))
    seen = len(plain.seen)
    out = inside.client("raw", "a.example", "80", "2", given=request_text).out
    if status is None:
        assert all(" " not in name for _, _, headers in plain.seen[seen:] for name in headers)
        return
    assert out.startswith(f"HTTP/1.1 {status}"), out
    assert len(plain.seen) == seen
    blocked = [
        frame["entry"]
        for frame in inside.run.frames
        if frame.get("entry", {}).get("decision", {}).get("action") == "block"
    ]
    assert blocked, inside.run.frames


def test_other_upgrades_are_not_carried(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    inside.curl(
        "-H",
        "Connection: Upgrade, HTTP2-Settings",
        "-H",
        "Upgrade: h2c",
        "-H",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "http://a.example/up",
    )
    assert "upgrade" not in plain.seen[-1][2]
    assert "http2-settings" not in plain.seen[-1][2]


@pytest.mark.parametrize("size", [5, 60_000])
@pytest.mark.parametrize("secret", [False, True])
def test_what_stands_behind_a_body_is_not_carried(
    session: Any, upstream: Upstream, capsys: pytest.CaptureFixture[str], size: int, secret: bool
) -> None:
    """Nothing has decided it, counted it, or looked for placeholders in it; the control: a server does get it."""
    clients.trailing("a.example", "/size", str(size), "unseen", str(upstream.port))
    assert capsys.readouterr().out == "200\n"
    assert upstream.trailers.pop() == {"x-behind": "unseen"}
    held = {"value": "v" * 20, "placeholder": "capsule-secret-token-" + "0" * 32, "expires": None}
    spec = {"name": "token", "from": {"kind": "env"}, "to": ["a.example"], "as": "header", "field": "x-key",
            "user": None, "env": "TOKEN", "origin": None}  # fmt: skip
    values: dict[str, Any] = {"secrets": {"token": held}, "plan_secrets": [spec]} if secret else {}
    inside = session(host("a.example", 443), **to(upstream), **values)
    done = inside.client("trailing", "a.example", "/size", str(size), "unseen")
    assert done.out == "200\n", done
    assert upstream.trailers == []
    assert inside.run.record("egress.http", path="/size")["http"]["body"]["size"] == size


@pytest.mark.parametrize("older", ["--http1.1", "--no-alpn"])
def test_one_program_s_protocol_is_not_the_next_one_s(session: Any, upstream: Upstream, older: str) -> None:
    """A program that speaks gRPC has HTTP/2 or nothing."""
    inside = session(host("a.example", 443), **to(upstream))
    versions = [
        inside.curl("-o", "/dev/null", "-w", "%{http_version}", how, "https://a.example/x").out
        for how in (older, "--http2")
    ]
    assert versions == ["1.1", "2"]


def test_a_method_is_searched_as_it_is_sent(session: Any, upstream: Upstream) -> None:
    secret = {
        "name": "api", "from": {"kind": "env", "env": "A"}, "to": ["a.example"], "as": "header",
        "field": "Authorization", "user": None, "env": "A", "origin": None,
    }  # fmt: skip
    placeholder = "capsule-secret-api-" + "a1" * 16
    held = {"api": {"value": "the-value", "placeholder": placeholder, "expires": None}}
    inside = session(host("a.example", 443), **to(upstream), secrets=held, plan_secrets=[secret])
    before = len(upstream.seen)
    done = inside.curl("-X", placeholder, "https://a.example/x")
    assert "secret elsewhere" in done.out, done
    assert len(upstream.seen) == before
