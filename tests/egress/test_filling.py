"""Secrets through the daemon: the upstream sees the value, the program and the log never do."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.egress.supervisor import host, wait_until
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")
VALUE = "s3cr3t-v4lue/+"
PLACEHOLDER = "capsule-secret-token-" + "0123456789abcdef" * 2


def secret(**fields: Any) -> dict[str, Any]:
    plan = {"name": "token", "from": {"kind": "env"}, "to": ["a.example"], "as": "header", "field": "Authorization",
            "user": None, "env": "TOKEN", "origin": None, **fields}  # fmt: skip
    expires = plan.pop("expires", None)
    value = {"value": VALUE, "placeholder": PLACEHOLDER, "expires": expires}
    return {"secrets": {"token": value}, "plan_secrets": [plan]}


def nothing_shows(inside: Any) -> None:
    text = json.dumps(inside.run.frames)
    assert VALUE not in text
    assert VALUE not in inside.run.daemon.log.read_text()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_the_value_goes_in_at_the_edge(session: Any, upstream: Upstream, version: str) -> None:
    inside = session(host("a.example", 443), **to(upstream), **secret())
    done = inside.curl(version, "-H", f"Authorization: Bearer {PLACEHOLDER}", "https://a.example/x")
    assert done.out == "hello /x"
    assert upstream.seen[-1][2]["authorization"] == f"Bearer {VALUE}"
    entry = inside.run.record("egress.http", path="/x")
    assert entry["http"]["headers"]["authorization"] == f"Bearer {PLACEHOLDER}"
    assert entry["http"]["secret"] == ["token"]
    nothing_shows(inside)


def test_a_placeholder_of_another_run_does_not_go_out(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **secret())
    other = PLACEHOLDER[:-1] + "0"
    before = len(upstream.seen)
    done = inside.curl("-H", f"Authorization: Bearer {other}", "https://a.example/x")
    assert "foreign placeholder: that of token" in done.out
    assert len(upstream.seen) == before
    assert inside.run.record("egress.http", path="/x")["decision"]["by"] == "secret"
    done = inside.curl("-H", f"Authorization: Bearer {PLACEHOLDER}", "https://a.example/y")
    assert done.out == "hello /y", "the control"


def test_a_value_that_is_too_short_to_be_looked_for_is_named(session: Any, upstream: Upstream) -> None:
    given = secret()
    given["secrets"]["token"]["value"] = "12345"
    short = session(host("a.example", 443), **to(upstream), **given)
    assert "secret token: its value has fewer than 6 bytes" in short.run.ready["problems"][0]
    assert short.curl("https://a.example/x").out == "hello /x", "nothing is denied for it"
    assert "12345" not in json.dumps(short.run.ready)
    assert session(host("a.example", 443), **to(upstream), **secret()).run.ready["problems"] == [], (
        "the control"
    )


def test_basic_query_and_body(session: Any, upstream: Upstream) -> None:
    inside = session(
        host("a.example", 443), **to(upstream), **secret(**{"as": "basic", "field": None, "user": "me"})
    )
    inside.curl("-u", f"me:{PLACEHOLDER}", "https://a.example/basic")
    assert (
        upstream.seen[-1][2]["authorization"] == "Basic " + base64.b64encode(f"me:{VALUE}".encode()).decode()
    )
    inside.run.close()
    inside = session(host("a.example", 443), **to(upstream), **secret(**{"as": "query", "field": "key"}))
    inside.curl("--http1.1", f"https://a.example/q?a=1&key={PLACEHOLDER}")
    assert upstream.seen[-1][1] == "/q?a=1&key=s3cr3t-v4lue%2F%2B"
    nothing_shows(inside)
    inside.run.close()
    inside = session(host("a.example", 443), **to(upstream), **secret(**{"as": "body", "field": None}))
    body = json.dumps({"secret": PLACEHOLDER})
    done = inside.curl(
        "--http1.1", "-H", "Content-Type: application/json", "-d", body, "https://a.example/echo"
    )
    assert json.loads(done.out) == {"secret": PLACEHOLDER}, "it came back as what it was"
    echoed = inside.run.record("egress.http", path="/echo")
    assert (echoed["http"]["body"]["size"], echoed["http"]["redacted"]) == (
        len(json.dumps({"secret": VALUE})),
        1,
    )
    nothing_shows(inside)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-H", f"X-Other: {PLACEHOLDER}", "https://a.example/x"),
        (f"https://a.example/{PLACEHOLDER}",),
        (f"https://a.example/?key={PLACEHOLDER}",),
        ("-d", f"k={PLACEHOLDER}", "https://a.example/size"),
        ("-d", "x" * (80 << 10) + PLACEHOLDER, "https://a.example/size/long"),
        ("-H", f"Authorization: Bearer {PLACEHOLDER}", "https://b.example/x"),
        ("-H", f"Authorization: {base64.b64encode(PLACEHOLDER.encode()).decode()}", "https://b.example/x"),
    ],
    ids=["header", "path", "query", "body", "long", "host", "base64"],
)
def test_a_placeholder_elsewhere_is_blocked(
    session: Any, upstream: Upstream, arguments: tuple[str, ...]
) -> None:
    names = ("a.example", "b.example")
    upstreams = [{"host": name, "address": upstream.address, "origin": None} for name in names]
    inside = session(*(host(name, 443) for name in names), upstreams=upstreams, **secret())
    before = len(upstream.seen)
    done = inside.curl("--http1.1", "-w", " %{http_code}", *arguments)
    long = arguments[-1].endswith("long")  # found as it passes: what was sent before it had gone
    assert done.code != 0 if long else done.out.endswith("403"), done
    assert long or "stands in the" in done.out
    entry = inside.run.record("egress.http")
    assert (entry["decision"]["action"], entry["decision"]["by"]) == ("block", "secret")
    assert entry["decision"]["reason"].startswith("secret elsewhere: the placeholder of token ")
    assert long or len(upstream.seen) == before
    nothing_shows(inside)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_short_body_without_a_length_is_waited_for(session: Any, upstream: Upstream, version: str) -> None:
    """In two pieces, with a pause between them: nothing of it goes out, and the answer says why."""
    inside = session(host("a.example", 443), **to(upstream), **secret())
    seen = len(upstream.seen)
    parts = f"(printf 'a=%s' {PLACEHOLDER[:20]}; sleep 0.5; printf %s {PLACEHOLDER[20:]})"
    curl = f"curl -sS -m 20 --cacert {inside.ca} {version} -X POST -T - -w ' %{{http_code}}'"
    done = inside.stage.run("sh", "-c", f"{parts} | {curl} https://a.example/size")
    assert done.out.endswith("403"), done
    assert "stands in the body" in done.out
    assert len(upstream.seen) == seen
    long = f"head -c 3000000 /dev/zero | curl -sS -m 20 --cacert {inside.ca} {version} -T - https://a.example/size"
    assert inside.stage.run("sh", "-c", long).out == "3000000", "the control: a long one goes on as it comes"


def test_a_placeholder_under_inspect_auto(session: Any, upstream: Upstream) -> None:
    """A host that no secret is for is looked at too, once the policy has any; without one its bytes pass."""
    names = ("a.example", "b.example")
    upstreams = [{"host": name, "address": upstream.address, "origin": None} for name in names]
    hosts = [host(name, 443, inspect="auto") for name in names]
    before = len(upstream.seen)
    inside = session(*hosts, upstreams=upstreams, **secret())
    done = inside.curl("-w", " %{http_code}", "-d", f"key={PLACEHOLDER}", "https://b.example/size")
    assert done.out.endswith(" 403"), done
    assert inside.run.record("egress.http", path="/size")["decision"]["by"] == "secret"
    assert len(upstream.seen) == before
    inside.run.close()
    control = session(*hosts, upstreams=upstreams)
    assert control.curl("-k", "-d", f"key={PLACEHOLDER}", "https://b.example/size").out == str(
        4 + len(PLACEHOLDER)
    )
    assert not control.run.records("egress.http")


def test_a_secret_never_goes_out_in_clear(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **secret())
    done = inside.curl("-w", " %{http_code}", "-H", f"Authorization: {PLACEHOLDER}", "http://a.example/x")
    assert done.out.endswith("403")
    assert "over TLS only" in done.out


def test_an_entry_bound_to_a_credential(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443, credential="token"), **to(upstream), **secret())
    before = len(upstream.seen)
    for arguments in (("-H", "Authorization: Bearer somebody-else"), ()):
        done = inside.curl("-w", " %{http_code}", *arguments, "https://a.example/upload")
        assert done.out.endswith("403")
        assert "foreign credential" in done.out
    assert len(upstream.seen) == before
    assert inside.curl("-H", f"Authorization: Bearer {PLACEHOLDER}", "https://a.example/x").out == "hello /x"


def test_an_expired_secret_is_asked_for(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **secret(expires="2020-01-01T00:00:00Z"))
    number = inside.stage.start(
        "curl",
        "-sS",
        "-m",
        "20",
        "--cacert",
        str(inside.ca),
        "-H",
        f"Authorization: {PLACEHOLDER}",
        "https://a.example/x",
    )
    assert inside.run.frame(lambda frame: frame["type"] == "need_secret")["name"] == "token"
    inside.run.send({"type": "secret", "name": "token", "value": "fresh-value", "expires": None})
    assert inside.stage.finish(number).out == "hello /x"
    assert upstream.seen[-1][2]["authorization"] == "fresh-value"


def test_what_the_upstream_repeats_is_not_recorded(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **secret(**{"as": "query", "field": "key"}))
    inside.curl("--http1.1", f"https://a.example/reflect?key={PLACEHOLDER}")
    inside.run.record("egress.http", path="/reflect")
    nothing_shows(inside)


@pytest.mark.parametrize("form", ["plain", "pieces", "gzip", "long"])
def test_a_value_that_comes_back_is_a_placeholder_again(session: Any, upstream: Upstream, form: str) -> None:
    inside = session(host("a.example", 443), **to(upstream), **secret())
    header = f"Authorization: Bearer {PLACEHOLDER}"
    done = inside.curl("--http1.1", "-D", "-", "-H", header, f"https://a.example/mirror/{form}")
    assert upstream.seen[-1][2]["authorization"] == f"Bearer {VALUE}", "the control: it went out"
    assert upstream.seen[-1][2]["accept-encoding"] == "identity"
    assert VALUE not in done.out
    assert f"x-was: Bearer {PLACEHOLDER}" in done.out
    kept = PLACEHOLDER[: len(VALUE)] if form == "long" else PLACEHOLDER
    assert f'"authorization": "Bearer {kept}"' in done.out
    assert inside.run.record("egress.http", path=f"/mirror/{form}")["http"]["redacted"] == 2
    nothing_shows(inside)


def test_an_answer_that_cannot_be_read_is_refused(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **secret())
    header = f"Authorization: Bearer {PLACEHOLDER}"
    done = inside.curl("--http1.1", "-H", header, "https://a.example/mirror/odd")
    assert "cannot be looked at" in done.out
    assert VALUE not in done.out
    assert inside.run.record("egress.http", path="/mirror/odd")["decision"]["by"] == "secret"


def test_a_host_that_no_secret_is_for_is_left_alone(session: Any, upstream: Upstream) -> None:
    both = [{**to(upstream)["upstreams"][0], "host": name} for name in ("a.example", "b.example")]
    inside = session(host("a.example", 443), host("b.example", 443), upstreams=both, **secret())
    done = inside.curl("--http1.1", "-H", f"Authorization: {VALUE}", "https://b.example/mirror/plain")
    assert json.loads(done.out)["headers"]["authorization"] == VALUE


def test_a_value_comes_back_over_http2(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **secret(**{"as": "query", "field": "key"}))
    done = inside.curl("--http2", f"https://a.example/q?key={PLACEHOLDER}")
    assert upstream.seen[-1][1] == "/q?key=s3cr3t-v4lue%2F%2B"
    assert done.out == f"hello /q?key={PLACEHOLDER}"


def test_a_placeholder_in_a_frame_closes_the_websocket(session: Any, upstream: Upstream) -> None:
    """Also toward the secret's own host, and cut into fragments with pings between them."""
    inside = session(host("a.example", 443), **to(upstream), **secret())
    done = inside.client("websocket_says", "a.example", "one ", "two")
    assert b"one ".hex() in done.out, done
    assert "sec-websocket-extensions" not in upstream.seen[-1][2]
    for texts in ((f"x {PLACEHOLDER}",), (PLACEHOLDER[:20], PLACEHOLDER[20:40], PLACEHOLDER[40:])):
        done = inside.client("websocket_says", "a.example", *texts)
        got = bytes.fromhex(done.out)
        assert b"\x03\xf0capsule: secret elsewhere" in got, done
        assert got.endswith(b"<end>")
        assert PLACEHOLDER.encode() not in got
        assert bytes([0x80, len(PLACEHOLDER) - 40]) + PLACEHOLDER[40:].encode() not in got, (
            "the last piece went"
        )
    wait_until(lambda: len(inside.run.records("egress.websocket")) == 3)
    blocked = [
        entry for entry in inside.run.records("egress.websocket") if entry["decision"]["action"] == "block"
    ]
    assert [entry["websocket"]["close_code"] for entry in blocked] == [1008, 1008]
    assert {entry["decision"]["by"] for entry in blocked} == {"secret"}
    nothing_shows(inside)


def test_a_value_that_comes_back_in_a_frame_is_the_placeholder_again(
    session: Any, upstream: Upstream
) -> None:
    inside = session(host("a.example", 443), **to(upstream), **secret())
    done = inside.client("websocket_says", "a.example", f"you said {VALUE}, ", "and no more")
    got = bytes.fromhex(done.out)
    assert b"you said " + PLACEHOLDER[: len(VALUE)].encode() + b", " in got, done
    assert b"and no more" in got
    assert VALUE.encode() not in got
    wait_until(lambda: len(inside.run.records("egress.websocket")) == 1)
    assert inside.run.record("egress.http", path="/ws")["http"]["redacted"] == 1
    nothing_shows(inside)
