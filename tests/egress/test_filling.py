"""Secrets through the daemon: the upstream sees the value, the program and the log never do."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.egress.supervisor import host
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
    assert json.loads(done.out) == {"secret": VALUE}
    nothing_shows(inside)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-H", f"X-Other: {PLACEHOLDER}", "https://a.example/x"),
        (f"https://a.example/{PLACEHOLDER}",),
        (f"https://a.example/?key={PLACEHOLDER}",),
        ("-d", f"k={PLACEHOLDER}", "https://a.example/size"),
        ("-H", f"Authorization: Bearer {PLACEHOLDER}", "https://b.example/x"),
        ("-H", f"Authorization: {base64.b64encode(PLACEHOLDER.encode()).decode()}", "https://b.example/x"),
    ],
    ids=["header", "path", "query", "body", "host", "base64"],
)
def test_a_placeholder_elsewhere_is_blocked(
    session: Any, upstream: Upstream, arguments: tuple[str, ...]
) -> None:
    names = ("a.example", "b.example")
    upstreams = [{"host": name, "address": upstream.address, "origin": None} for name in names]
    inside = session(*(host(name, 443) for name in names), upstreams=upstreams, **secret())
    before = len(upstream.seen)
    done = inside.curl("--http1.1", "-w", " %{http_code}", *arguments)
    body = "size" in arguments[-1]
    assert done.out.endswith("403") or (body and done.code != 0), done
    entry = inside.run.record("egress.http")
    assert (entry["decision"]["action"], entry["decision"]["by"]) == ("block", "secret")
    assert "secret_elsewhere" in entry["decision"]["reason"]
    assert body or len(upstream.seen) == before
    nothing_shows(inside)


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
