"""MCP over HTTP through a real session: what is recorded, what rules keep in, and what cannot be told apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.egress.supervisor import host, wait_until
from tests.egress.test_deciding import rules
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")
ACCEPT = ("-H", "Accept: application/json, text/event-stream")
JSON = ("-H", "Content-Type: application/json")
NO_RM = """\
  - id: no-rm
    on: mcp
    when: mcp.method == "tools/call" && mcp.tool == "rm"
    action: block
    reason: nothing is removed
    level: high
"""


def call(tool: str, number: Any = 7, **arguments: Any) -> str:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})


def post(
    inside: Any, body: str, *more: str, path: str = "/mcp", version: str = "--http1.1"
) -> tuple[str, str]:
    given = more or (*JSON, *ACCEPT)
    url = f"https://a.example{path}"
    done = inside.curl(version, "-w", "\n%{http_code}", *given, "--data-binary", "@-", url, given=body)
    text, _, status = done.out.rpartition("\n")
    return text, status


def test_a_call_is_recorded_with_its_answer(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    start = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
    post(inside, json.dumps(start))
    for path, form in (("/mcp", "json"), ("/mcp/events", "events")):
        text, status = post(
            inside, call("search", q="é", form=form), *JSON, *ACCEPT, "-H", "Mcp-Session-Id: s-1", path=path
        )
        assert status == "200"
        assert "done" in text
    wait_until(lambda: len(inside.run.records("egress.http")) == 3)
    told = inside.run.records("egress.mcp")
    assert [entry["mcp"]["method"] for entry in told] == [
        "initialize", "tools/call", "notifications/progress", "tools/call",
    ]  # fmt: skip
    assert {entry["mcp"]["session"] for entry in told} == {hashlib.sha256(b"s-1").hexdigest()[:16]}
    assert "s-1" not in json.dumps([entry["mcp"] for entry in told])
    http = {entry["event"]["id"]: entry["http"]["path"] for entry in inside.run.records("egress.http")}
    assert [http[entry["mcp"]["http_id"]] for entry in told] == ["/mcp", "/mcp", "/mcp/events", "/mcp/events"]
    mcp = told[3]["mcp"]
    given = '{"q":"é","form":"events"}'.encode()
    assert mcp["arguments_size"] == len(given)
    assert mcp["arguments_sha256"] == hashlib.sha256(given).hexdigest()
    assert (mcp["server"], mcp["tool"], mcp["request_id"], mcp["direction"]) == (
        "a.example",
        "search",
        "7",
        "out",
    )
    assert mcp["result_size"] > 20
    assert mcp["duration_us"] > 0
    assert "error" not in mcp
    assert told[2]["mcp"]["direction"] == "in"
    assert told[3]["decision"]["action"] == "allow"


def test_a_tool_that_fails_and_a_notification(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    post(inside, call("broken"))
    assert inside.run.record("egress.mcp")["mcp"]["error"] == "the tool failed"
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert post(inside, json.dumps(note))[1] == "202"
    entry = inside.run.record("egress.mcp", method="notifications/initialized")
    assert not {"request_id", "result_size", "error"} & entry["mcp"].keys()


def test_a_rule_keeps_a_call_in_and_the_answer_explains(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **rules(NO_RM))
    before = len(upstream.bodies)
    for number, version in ((7, "--http1.1"), ("seven", "--http2")):
        text, status = post(inside, call("rm", number, path="/"), version=version)
        assert status == "200"
        said = json.loads(text)
        assert (said["jsonrpc"], said["id"], said["error"]["code"]) == ("2.0", number, -32000)
        assert said["error"]["message"] == (
            "capsule blocked tools/call rm: nothing is removed (rule no-rm, /rules.yaml:3)"
        )
        assert said["error"]["data"]["place"] == "/rules.yaml:3"
    assert len(upstream.bodies) == before
    entry = inside.run.record("egress.mcp", tool="rm")
    assert (entry["decision"]["action"], entry["decision"]["rule"]["id"]) == ("block", "no-rm")
    http = inside.run.record("egress.http", path="/mcp")
    assert http["decision"]["action"] == "block"
    assert http["event"]["id"] == entry["mcp"]["http_id"]
    assert inside.run.record("egress.finding")["events"] == [entry["event"]["id"]]
    text, status = post(inside, call("search"))
    assert json.loads(text)["result"]["isError"] is False
    assert len(upstream.bodies) == before + 1


INSIDE_ONLY = """\
  - id: stay-inside
    on: mcp
    when: mcp.tool == "read" && !mcp.arguments.path.startsWith("/w/")
    action: block
    reason: outside of the workspace
"""


def test_a_rule_reads_arguments(session: Any, upstream: Upstream) -> None:
    """They are for rules and not on the log; what is missing holds a `block`, and no key may stand twice."""
    inside = session(host("a.example", 443), **to(upstream), **rules(INSIDE_ONLY))
    assert "done" in post(inside, call("read", path="/w/a"))[0]
    before = len(upstream.seen)
    assert "outside of the workspace" in post(inside, call("read", path="/etc/passwd"))[0]
    assert "outside of the workspace" in post(inside, call("read", file="/w/a"))[0]
    assert "outside of the workspace" in post(inside, call("read", path="/w/a", more="x" * (65 << 10)))[0]
    twice = call("read", path="/w/a").replace('"path"', '"PATH": "/etc/passwd", "path"')
    assert "twice" in post(inside, twice)[0]
    assert len(upstream.seen) == before
    wait_until(lambda: len(inside.run.records("egress.mcp")) == 4)
    blocked = inside.run.records("egress.mcp")[1:]
    assert [entry["decision"]["action"] for entry in blocked] == ["block"] * 3
    assert blocked[1]["decision"]["missing"] == ["mcp.arguments.path"]
    assert not any("arguments" in entry["mcp"] for entry in inside.run.records("egress.mcp"))


def test_one_of_a_list_keeps_all_of_it_in(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **rules(NO_RM))
    before = len(upstream.bodies)
    text, _ = post(inside, f"[{call('search', 1)}, {call('rm', 2)}]")
    assert [answer["id"] for answer in json.loads(text)] == [1, 2]
    assert len(upstream.bodies) == before
    inside.run.record("egress.mcp", tool="rm")
    told = inside.run.records("egress.mcp")
    assert [(entry["mcp"]["tool"], entry["decision"]["action"]) for entry in told] == [
        ("search", "block"), ("rm", "block"),
    ]  # fmt: skip


TWICE = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm","name":"search"}}'


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (TWICE, (*JSON, *ACCEPT), "'name'"),
        (call("rm").replace("method", "Method"), JSON, "'method'"),
        (call("rm") + " " * (1 << 20), JSON, "longer"),
        ("not json", (*JSON, "-H", "Mcp-Session-Id: s"), "not JSON"),
        (call("search"), (*JSON, "-H", "Content-Encoding: gzip"), "compressed"),
    ],
)
def test_what_rules_cannot_see_does_not_go_out(
    session: Any, upstream: Upstream, body: str, headers: tuple[str, ...], why: str
) -> None:
    inside = session(host("a.example", 443), **to(upstream), **rules(NO_RM))
    before = len(upstream.bodies)
    text, status = post(inside, body, *headers)
    assert status == "403", text
    assert why in text
    assert len(upstream.bodies) == before


@pytest.mark.parametrize("headers", [JSON, ("-H", "Content-Type: text/plain"), ("-H", "Content-Type;")])
def test_a_call_without_signs_of_mcp_is_seen_by_rules(
    session: Any, upstream: Upstream, headers: tuple[str, ...]
) -> None:
    inside = session(host("a.example", 443), **to(upstream), **rules(NO_RM))
    text, _ = post(inside, call("rm"), *headers)
    assert json.loads(text)["error"]["code"] == -32000


def test_other_json_stays_http(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **rules(NO_RM))
    for body in ('{"jsonrpc":"2.0","id":1,"method":"eth_call"}', '{"a":1,"a":2}', "[1]"):
        assert post(inside, body, *JSON, *ACCEPT, path="/echo")[0] == body
    inside.run.record("egress.http", path="/echo")
    assert not inside.run.records("egress.mcp")


def test_without_rules_what_is_not_understood_passes(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    assert post(inside, TWICE, path="/echo")[0] == TWICE
    assert post(inside, "not json", *JSON, "-H", "Mcp-Session-Id: s", path="/echo")[0] == "not json"


def test_a_person_is_asked(session: Any, upstream: Upstream) -> None:
    ask = NO_RM.replace("action: block", "action: ask")
    inside = session(host("a.example", 443), **to(upstream), **rules(ask), interactive=True)
    url = "https://a.example/mcp"
    number = inside.stage.start(
        "curl",
        "-sS",
        "-m",
        "25",
        "--cacert",
        str(inside.ca),
        "--http1.1",
        *JSON,
        *ACCEPT,
        "-d",
        call("rm"),
        url,
    )
    asked = inside.run.frame(lambda frame: frame["type"] == "ask")
    assert asked["event"]["mcp"]["tool"] == "rm"
    inside.run.send({"type": "answer", "id": asked["id"], "allow": True, "scope": "once", "for_ms": None})
    assert "done" in inside.stage.finish(number).out
    decision = inside.run.record("egress.mcp", tool="rm")["decision"]
    assert (decision["action"], decision["by"]) == ("allow", "ask")
