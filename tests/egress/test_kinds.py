"""Rules on `model`, `websocket` and `tcp` decide before anything goes out; what cannot be read is not let through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from capsule.egress.kinds import kinds_of
from capsule.egress.story import Story
from capsule.rules import event as table
from capsule.rules.deciders import EGRESS
from capsule.rules.engine import compile_rules
from capsule.rules.rule import parse_rules
from tests.egress.supervisor import host, wait_until
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

PATH = "/echo/v1/chat/completions"
RULES = """
version: 1
rules:
  - id: own-tools
    on: model
    when: model.tools.exists(name, !name.startsWith("mine"))
    action: block
    reason: the provider runs no tools
"""
MINE = {"type": "function", "function": {"name": "mine_read"}}


def ruled(text: str = RULES) -> dict[str, Any]:
    return {"rules": [{"path": "/rules.yaml"}], "sources": [{"path": "/rules.yaml", "text": text}]}


def body(**fields: Any) -> str:
    return json.dumps({"model": "small-1", "messages": [{"role": "user", "content": "x"}], **fields})


@pytest.mark.needs("userns", "unshare", "curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_tool_that_the_provider_runs_is_kept_out(session: Any, upstream: Upstream, version: str) -> None:
    inside = session(host("a.example", 443), **to(upstream), **ruled())
    call = ("-H", "Content-Type: application/json", f"https://a.example{PATH}")
    assert json.loads(inside.curl(version, "-d", body(tools=[MINE]), *call).out)["tools"] == [MINE], (
        "the control"
    )
    seen = len(upstream.seen)
    for given in (
        body(tools=[MINE, {"type": "mcp", "server_url": "https://evil.example"}]),
        body(mcp_servers=[{"url": "https://evil.example"}]),
        body(web_search_options={}),
        '{"tools": [], ' + body(tools=[{"type": "mcp"}])[1:],
    ):
        done = inside.curl(version, "-w", " %{http_code}", "-d", given, *call)
        assert done.out.endswith("403"), done
        assert "the provider runs no tools" in done.out
    assert len(upstream.seen) == seen, "nothing of them went out"
    blocked = inside.run.record("egress.http", status=403)
    assert blocked["decision"]["rule"]["id"] == "own-tools"
    call = inside.run.record("egress.model", http_id=blocked["http"]["id"])
    assert (call["decision"]["action"], call["model"]["name"]) == ("block", "small-1"), "it was a call too"
    assert call["model"]["priced"] is False


@pytest.mark.needs("userns", "unshare", "curl")
def test_a_call_that_cannot_be_read_is_kept_out(session: Any, upstream: Upstream) -> None:
    """Longer than anybody looks at, and under a content coding; without the rule both pass."""
    inside = session(host("a.example", 443), **to(upstream), **ruled())
    url = "https://a.example/size/v1/chat/completions"
    long = (
        "sh",
        "-c",
        f"head -c 1500000 /dev/zero | curl -sS -m 20 --cacert {inside.ca} -T - -X POST %s -w ' %%{{http_code}}' {url}",
    )
    seen = len(upstream.seen)
    for extra in ("-H 'Expect:'", "-H 'Content-Encoding: gzip'"):
        done = inside.stage.run(*long[:2], long[2] % extra)
        assert done.out.endswith("403"), done
        assert "not known: model.tools" in done.out
    assert len(upstream.seen) == seen
    inside.run.close()
    inside = session(host("a.example", 443), **to(upstream))
    assert inside.stage.run(*long[:2], long[2] % "").out == "1500000 200"


@pytest.mark.needs("userns", "unshare", "curl")
def test_a_call_that_is_refused_at_its_head_is_recorded_as_one(session: Any, upstream: Upstream) -> None:
    rules = "version: 1\nrules: [{id: never, on: http, when: http.path.startsWith('/v1/messages'), action: block}]\n"
    name = "api.anthropic.com"
    inside = session(
        host(name, 443),
        **{**to(upstream), "upstreams": [{**to(upstream)["upstreams"][0], "host": name}]},
        **ruled(rules),
    )
    done = inside.curl("-d", body(max_tokens=3), f"https://{name}/v1/messages")
    assert "by rule" in done.out, done
    call = inside.run.record("egress.model", provider="anthropic")
    assert (call["decision"]["action"], call["decision"]["rule"]["id"]) == ("block", "never")
    assert call["model"]["http_id"] == inside.run.record("egress.http", path="/v1/messages")["http"]["id"]


@pytest.mark.needs("userns", "unshare", "curl")
def test_a_websocket_is_refused_at_its_upgrade(session: Any, upstream: Upstream) -> None:
    rule = "version: 1\nrules: [{id: none, on: websocket, when: 'websocket.host == \"a.example\"', action: block}]\n"
    inside = session(host("a.example", 443), **to(upstream), **ruled(rule))
    seen = len(upstream.seen)
    done = inside.client("websocket", "a.example")
    assert "101" not in done.out
    assert len(upstream.seen) == seen
    assert inside.run.record("egress.http", path="/ws")["decision"]["rule"]["id"] == "none"
    assert inside.curl("https://a.example/x").out == "hello /x", "other requests are none"


@pytest.mark.needs("userns", "unshare", "curl")
def test_a_rule_on_tcp_decides_on_inspected_connections_too(session: Any, upstream: Upstream) -> None:
    rule = "version: 1\nrules: [{id: shut, on: tcp, when: 'tcp.port == 443', action: block}]\n"
    inside = session(host("a.example", 443, inspect="always"), **to(upstream), **ruled(rule))
    before = upstream.accepted
    assert inside.curl("https://a.example/x").code != 0
    assert upstream.accepted == before
    assert inside.run.record("egress.tcp", host="a.example")["decision"]["rule"]["id"] == "shut"


@pytest.mark.needs("userns", "unshare", "curl")
@pytest.mark.parametrize("on", ["process", "file"])
def test_a_rule_that_nobody_asks_denies_everything_and_says_so(
    session: Any, upstream: Upstream, on: str
) -> None:
    rule = f"version: 1\nrules:\n  - {{id: never, on: {on}, when: 'true', action: block}}\n"
    inside = session(host("a.example", 443), **to(upstream), **ruled(rule))
    assert (
        f"rules.yaml:3:21: rule never: nobody asks rules about a {on} event"
        in inside.run.ready["problems"][0]
    )
    assert "hello" not in inside.curl("https://a.example/x").out


def test_without_such_rules_there_are_no_further_events() -> None:
    story = Story("e-1", 0.0, {"event": {"type": "http"}, "http": {"host": "a.example", "websocket": True}})
    assert kinds_of(story, compile_rules([]), "POST", PATH) == []
    found = kinds_of(story, compile_rules([parse_rules(RULES, "x")]), "POST", PATH)
    assert found[0]["event"]["type"] == "model"
    assert found[0]["model"] == {"provider": "compatible", "api": "chat", "http_id": "e-1"}


@pytest.mark.needs("userns", "unshare", "curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_what_no_entry_lists_is_refused_though_the_upstream_is_down(session: Any, version: str) -> None:
    """Nothing is dialled for it; the control is dialled in vain."""
    down = [{"host": "a.example", "address": "127.0.0.1:1", "origin": None}]
    inside = session(host("a.example", 443, paths=["/ok/**"], methods=["GET"]), upstreams=down)
    done = inside.curl(version, "-w", " %{http_code}", "https://a.example/ok/x")
    assert done.out.endswith(" 502"), done
    for extra in ((), ("-d", "x"), ("-X", "DELETE")):
        done = inside.curl(version, "-w", " %{http_code}", *extra, "https://a.example/admin")
        assert done.out.endswith(" 403"), done
    for entry in inside.run.records("egress.http"):
        if entry["http"]["path"] == "/admin":
            assert entry["decision"]["action"] == "block"


CALL = ("-H", "Content-Type: application/json")
MCP = '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
REQUESTS: dict[str, tuple[str, ...]] = {
    "http": ("https://a.example/x",),
    "http_response": ("https://a.example/x",),
    "dns": ("https://a.example/x",),
    "tcp": ("https://a.example/x",),
    "model": (*CALL, "-d", body(), f"https://a.example{PATH}"),
    "mcp": (*CALL, "-H", "Accept: application/json, text/event-stream", "-d", MCP, "https://a.example/echo"),
    "websocket": (
        *("--http1.1", "-m", "3", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"),
        *(
            "-H",
            "Sec-WebSocket-Version: 13",
            "-H",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "https://a.example/x",
        ),
    ),
}


def lacking(kind: str, paths: list[str], *, really: bool) -> dict[str, Any]:
    """A rule for each field: it blocks when the field is missing, or (the control) when it is there."""
    rows = [
        f"  - {{id: r{number}, on: {kind}, when: '{'!' * really}has({path})', action: block, reason: {path}}}\n"
        for number, path in enumerate(paths)
    ]
    return ruled("version: 1\nrules:\n" + "".join(rows))


@pytest.mark.needs("userns", "unshare", "curl")
@pytest.mark.parametrize("kind", EGRESS)
def test_what_is_documented_as_known_is_known(session: Any, upstream: Upstream, kind: str) -> None:
    moments = {"start", "response"} if kind == "http_response" else {"start"}
    paths = [path for path, row in table.visible(kind).items() if row.sure and row.at in moments]
    assert len(paths) > 2
    request = REQUESTS[kind]
    inside = session(host("a.example", 443), **to(upstream), **lacking(kind, paths, really=True))
    inside.curl(*request)
    inside.run.record("egress.http", host="a.example")
    assert blocked(inside) == []
    last = session(host("a.example", 443), **to(upstream), **lacking(kind, paths[-1:], really=False))
    last.curl(*request)
    wait_until(lambda: blocked(last) != [])


def blocked(inside: Any) -> list[str]:
    """The rules that blocked something."""
    entries = [one for kind in ("http", "dns", "tcp") for one in inside.run.records(f"egress.{kind}")]
    decisions = [one["decision"] for one in entries]
    return [one["reason"] for one in decisions if one["action"] == "block" and one["by"] == "rule"]
