"""MCP over HTTP, seen from the side."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.mcp_message import (
    ARGUMENTS,
    BODY,
    CALLS,
    MESSAGES,
    NAME,
    McpExchange,
    ambiguity,
    identities,
    of_mcp,
)


def body(*messages: dict[str, Any]) -> bytes:
    whole = [{"jsonrpc": "2.0", **message} for message in messages]
    return json.dumps(whole[0] if len(whole) == 1 else whole).encode()


def exchange(*headers: str) -> McpExchange:
    return McpExchange("mcp.example", headers)


CALL = {"id": 7, "method": "tools/call", "params": {"name": "search", "arguments": {"q": "é"}}}


def test_a_call_and_its_answer() -> None:
    seen = exchange("content-type")
    assert seen.request(body(CALL)) == [
        {
            "method": "tools/call", "server": "mcp.example", "tool": "search", "request_id": "7",
            "direction": "out", "arguments_size": len('{"q":"é"}'.encode()), "arguments": {"q": "é"},
            "arguments_sha256": hashlib.sha256('{"q":"é"}'.encode()).hexdigest(),
        }
    ]  # fmt: skip
    assert seen.is_mcp
    seen.answers("application/json; charset=utf-8")
    assert seen.feed(body({"id": 7, "result": {"content": []}})) == []
    assert seen.finish() == [
        {
            "method": "tools/call",
            "server": "mcp.example",
            "request_id": "7",
            "tool": "search",
            "result_size": len('{"content":[]}'),
        }
    ]
    assert seen.finish() == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"result": {"isError": True, "content": []}}, "the tool failed"),
        ({"result": {"isError": "yes"}}, None),
        ({"error": {"code": -32602, "message": "no such tool"}}, "-32602: no such tool"),
        ({"error": {"code": "x"}}, "error"),
        ({"error": "text"}, "error"),
        ({"error": None, "result": None}, None),
    ],
)
def test_errors(answer: dict[str, Any], error: str | None) -> None:
    seen = exchange()
    seen.request(body(CALL))
    seen.answers("application/json")
    seen.feed(body({"id": 7, **answer}))
    assert [event.get("error") for event in seen.finish()] == [error]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"id": "a", "method": "initialize", "params": {"protocolVersion": "x"}}, {"request_id": "a"}),
        ({"method": "notifications/initialized"}, {}),
        (
            {"id": 1, "method": "resources/read", "params": {"uri": "file:///x"}},
            {"tool": "file:///x", "request_id": "1"},
        ),
        (
            {"id": 1, "method": "prompts/get", "params": {"name": "p", "arguments": {}}},
            {
                "tool": "p",
                "request_id": "1",
                "arguments_size": 2,
                "arguments": {},
                "arguments_sha256": hashlib.sha256(b"{}").hexdigest(),
            },
        ),
        ({"id": 1, "method": "tools/call", "params": {"name": 5}}, {"request_id": "1", "arguments_size": 0}),
        ({"id": True, "method": "tools/list", "params": []}, {}),
        ({"id": 1.5, "method": "ping"}, {}),
    ],
)
def test_requests(message: dict[str, Any], told: dict[str, Any]) -> None:
    assert exchange().request(body(message)) == [
        {"method": message["method"], "server": "mcp.example", "direction": "out", **told}
    ]


def test_lists_are_looked_through() -> None:
    seen = exchange()
    assert (
        len(seen.request(body(CALL, {"method": "notifications/cancelled"}, {"id": 9, "method": "ping"}))) == 3
    )
    many = [{"id": number, "method": "ping"} for number in range(MESSAGES + 5)]
    assert len(exchange().request(body(*many))) == MESSAGES


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_stream_of_events(size: int, end: str) -> None:
    seen = exchange()
    seen.request(body(CALL))
    seen.answers("text/event-stream")
    stream = end.join([
        "event: message", "data: " + body({"method": "notifications/progress", "params": {}}).decode(), "",
        ": a comment", "data: not json", "",
        "data: " + body({"id": "s1", "method": "sampling/createMessage", "params": {}}).decode(), "",
        "data: " + body({"id": 7, "error": {"code": 1, "message": "x"}}).decode(), "", "",
    ]).encode()  # fmt: skip
    told = [event for at in range(0, len(stream), size) for event in seen.feed(stream[at : at + size])]
    assert [event["method"] for event in told] == [
        "notifications/progress",
        "sampling/createMessage",
        "tools/call",
    ]
    assert [event.get("direction") for event in told] == ["in", "in", None]
    assert told[2]["error"] == "1: x"
    assert seen.finish() == []


def test_json_rpc_of_something_else_is_not_told() -> None:
    seen = exchange("content-type", "accept")
    assert seen.request(body({"id": 1, "method": "eth_call", "params": []})) == []
    assert not seen.is_mcp
    seen.answers("application/json")
    seen.feed(body({"id": 1, "result": 1}))
    assert seen.finish() == []


def test_a_header_of_mcp_makes_it_certain() -> None:
    seen = exchange("Mcp-Session-Id")
    assert seen.is_mcp
    assert seen.request(body({"id": 1, "method": "vendor/thing"})) == [
        {"method": "vendor/thing", "server": "mcp.example", "direction": "out", "request_id": "1"}
    ]
    assert exchange("x-mcp-session-id").request(body({"id": 1, "method": "vendor/thing"})) == []


def test_an_answer_to_nothing_is_not_told() -> None:
    seen = exchange("mcp-session-id")
    seen.answers("application/json")
    seen.feed(body({"id": 99, "result": {}}))
    assert seen.finish() == []


def test_bounds() -> None:
    seen = exchange("mcp-session-id")
    for number in range(CALLS + 10):
        seen.request(body({"id": number, "method": "ping"}))
    assert len(seen._calls) == CALLS
    assert seen.request(b" " * (BODY + 1)) == []
    seen.answers("application/json")
    seen.feed(b" " * (BODY + 1))
    seen.feed(body({"id": 1, "result": {}}))
    assert seen.finish() == []
    long = exchange().request(
        body({"id": "i" * 999, "method": "tools/" + "x" * 999, "params": {"name": "n" * 9999}})
    )[0]
    assert [len(long[name]) for name in ("request_id", "method", "tool")] == [200, 200, NAME]


@pytest.mark.parametrize("method", [None, 5, "", "tool", "tools", "xtools/call", "initialized"])
def test_methods_that_are_not_of_mcp(method: object) -> None:
    assert not of_mcp(method)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["jsonrpc", "id", "method", "params", "name", "arguments", "result", "error"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_any_json_is_taken(asked: Any, answered: Any) -> None:
    seen = exchange("mcp-session-id")
    for item in (asked, answered):
        if isinstance(item, dict):
            item["jsonrpc"] = "2.0"
    for events in (seen.request(json.dumps(asked).encode()),):
        json.dumps(events)
    seen.answers("application/json")
    seen.feed(json.dumps(answered).encode())
    json.dumps(seen.finish())


def test_noise_is_taken() -> None:
    rng = random.Random(11)
    whole = body(CALL, {"id": 8, "method": "prompts/get", "params": {"name": "x", "arguments": [1]}})
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        seen = exchange()
        seen.request(bytes(data))
        seen.answers(rng.choice(["application/json", "text/event-stream"]))
        seen.feed(b"data: " + bytes(data) + b"\n\n")
        seen.finish()
    for deep in (
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","method":"ping","params":' + b"[" * 100_000,
        b'{"a":' * 5000,
    ):
        assert exchange("mcp-method").request(deep) == []


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ('{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', "'method'"),
        ('{"jsonrpc":"2.0","id":1,"METHOD":"tools/call"}', "'method'"),
        ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}', "'name'"),
        ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{},"Params":{"name":"b"}}', "'params'"),
        ('[{"jsonrpc":"2.0","id":1,"method":"ping"},{"JSONRPC":"2.0","method":"x"}]', "'jsonrpc'"),
        ('{"method":"tools/call"}', "jsonrpc 2.0"),
        ('{"jsonrpc":"2.0","method":"tools/call","params":{"name":"%s"}}' % ("n" * (NAME + 1)), "longer"),
        ("{not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"jsonrpc":"2.0","method":"tools/\xff"}', None),
    ],
)
def test_what_two_readers_could_read_differently(sent: str, why: str | None) -> None:
    found = ambiguity(sent.encode(), certain=True)
    assert (found is None) is (why is None), found
    assert why is None or (found is not None and why in found)


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"  ", body(CALL), body(CALL, {"method": "notifications/x"}), b'{"a":1,"a":2,"A":3}',
        b'{"method":"GET","method":"PUT"}', b"17", b'"x"', b"[[]]", b"{}",
        b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a","arguments":{"q":1,"r":[{"q":2}]}}}',
    ],
)  # fmt: skip
def test_what_is_read_one_way(sent: bytes) -> None:
    assert ambiguity(sent, certain=True) is None
    assert ambiguity(b"{not json", certain=False) is None


@pytest.mark.parametrize("arguments", ['{"q":1,"q":2}', '{"q":1,"Q":2}', '{"a":[{"q":{"r":1,"R":2}}]}'])
def test_arguments_that_a_rule_and_a_server_could_read_differently(arguments: str) -> None:
    sent = '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a","arguments":' + arguments + "}}"
    assert "twice in its arguments" in (ambiguity(sent.encode(), certain=True) or "")


@pytest.mark.parametrize("given", [None, [1], "text", {"a": "x" * ARGUMENTS}])
def test_arguments_that_are_no_map_or_too_long_are_missing(given: Any) -> None:
    seen = exchange("mcp-session-id")
    message = {"id": 1, "method": "tools/call", "params": {"name": "a", "arguments": given}}
    assert "arguments" not in seen.request(body(message))[0]


def test_too_many_messages_are_not_read_in_part() -> None:
    many = [{"id": number, "method": "ping"} for number in range(MESSAGES + 1)]
    assert "64" in (ambiguity(body(*many), certain=True) or "")


def test_the_ids_that_an_answer_repeats() -> None:
    sent = body({"id": 7, "method": "ping"}, {"id": "7", "method": "ping"}, {"method": "notifications/x"})
    assert identities(sent) == [7, "7"]
    assert identities(body({"id": 3, "result": {}})) == []
    assert identities(b"{") == []
