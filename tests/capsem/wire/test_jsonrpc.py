"""Lines of MCP: one message each, the same one for every reader."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from capsem.wire.jsonrpc import DEPTH, LINE, SpokenError, failure, parse

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}'


@pytest.mark.parametrize(
    ("line", "kind", "identity", "method"),
    [
        (CALL, "request", 1, "tools/call"),
        (b'{"jsonrpc":"2.0","id":"a-1","method":"ping"}', "request", "a-1", "ping"),
        (b'{"jsonrpc":"2.0","id":-7,"method":"ping","params":{}}', "request", -7, "ping"),
        (b'{"jsonrpc":"2.0","method":"notifications/progress"}', "notification", None, "notifications/progress"),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', "answer", 1, ""),
        (b'{"jsonrpc":"2.0","id":"1","error":{"code":1,"message":"x"}}', "answer", "1", ""),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}', "answer", None, ""),
    ],
)  # fmt: skip
def test_what_is_a_message(line: bytes, kind: str, identity: object, method: str) -> None:
    spoken = parse(line)
    assert (spoken.kind, spoken.id, spoken.method) == (kind, identity, method)
    assert spoken.line == line + b"\n"
    assert spoken.message == json.loads(line)
    assert spoken.params == json.loads(line).get("params", {})
    assert spoken.taken_back is None


@pytest.mark.parametrize(
    ("method", "params", "taken_back"),
    [
        ("notifications/cancelled", {"requestId": 1, "reason": "late"}, 1),
        ("notifications/cancelled", {"requestId": "1"}, "1"),
        ("notifications/cancelled", {}, None),
        ("notifications/cancelled", None, None),
        # What is no id is not the id that Python writes alike.
        *(("notifications/cancelled", {"requestId": odd}, None) for odd in (None, True, 1.0, [1], "a\n", 1 << 60)),
        ("notifications/progress", {"requestId": 1}, None),
    ],
)  # fmt: skip
def test_what_is_taken_back(method: str, params: dict[str, Any] | None, taken_back: object) -> None:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    found = parse(json.dumps(message if params is None else {**message, "params": params}).encode())
    assert (found.taken_back, type(found.taken_back)) == (taken_back, type(taken_back))


def test_a_message_that_waits_holds_its_line_alone() -> None:
    content = b"[],".join([b""] * 300_000) + b"[]"
    line = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":[%s]}}}'
        % content
    )
    tracemalloc.start()
    try:
        spoken = parse(line)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert spoken.params["name"] == "x"
    assert held < 2 * len(line), "64 messages of each side may wait"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}', "not JSON"),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', "not JSON"),
        (b"[" * (LINE - 1), "not JSON"),
        (b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"ping"}', "not JSON"),
        (b"[" + CALL + b"]", "a list of messages"),
        (b"7", "no object"),
        (b'{"id":1,"method":"ping"}', "does not say jsonrpc"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"x"}', "the key 'Method'"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"x"}', "stands twice"),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}', "stands twice"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}', "both a request and an answer"),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', "a method that is no text"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', "params"),
        (b'{"jsonrpc":"2.0","id":1}', "neither a request nor an answer"),
        (b'{"jsonrpc":"2.0","id":1,"result":1,"error":{}}', "neither a request nor an answer"),
        (b'{"jsonrpc":"2.0","result":1}', "an answer without an id"),
        *(
            (b'{"jsonrpc":"2.0","id":%s,"method":"ping"}' % identity, "an id that is neither")
            for identity in (b"null", b"1.0", b"1e0", b"true", b"[1]", b"{}", b"9007199254740992", b'"\\n"',
                             b'"' + b"x" * 129 + b'"')
        ),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"[" * 70 + b"]" * 70 + b"}}", "deeper"),
        (b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * LINE + b'"}', "more than"),
        ('{"jsonrpc":"2.0","id":1,"method":"' + "é" * (LINE // 4) + '"}', "as ASCII"),
    ],
)  # fmt: skip
def test_what_is_none(line: bytes | str, why: str) -> None:
    with pytest.raises(SpokenError, match=why):
        parse(line.encode() if isinstance(line, str) else line)


def test_depth_is_counted() -> None:
    def nested(levels: int) -> bytes:
        inside = "[" * levels + "]" * levels
        return ('{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + inside + "}}").encode()

    assert parse(nested(DEPTH - 2)).kind == "request"
    with pytest.raises(SpokenError, match="deeper"):
        parse(nested(DEPTH - 1))


SMUGGLED = '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"delete"}}'


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0c", "\x1c"])
def test_a_line_within_a_text_is_no_line_for_any_reader(end: str) -> None:
    hostile = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": end + SMUGGLED + end}},
        ensure_ascii=ord(end) < 0x80,
    )
    # Control: whoever splits the text as it came finds the second message.
    if ord(end) >= 0x80:
        assert any(line == SMUGGLED.replace('"', '\\"') for line in hostile.splitlines())
    spoken = parse(hostile.encode())
    assert len(spoken.line.decode().splitlines()) == 1
    assert json.loads(spoken.line) == json.loads(hostile)


def test_a_carriage_return_between_values_is_a_space() -> None:
    spoken = parse(b'{"jsonrpc":"2.0",\r"id":1,\r\t"method":"ping"}\r')
    assert spoken.line == b'{"jsonrpc":"2.0", "id":1,  "method":"ping"}\n'


def test_numbers_stay_as_they_were_written() -> None:
    line = '{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1e400,"b":0.10,"c":"𝄞"}}'
    spoken = parse(line.encode())
    assert b"1e400" in spoken.line
    assert b"0.10" in spoken.line
    assert b"\\ud834\\udd1e" in spoken.line


def test_an_error_is_a_line_for_its_request() -> None:
    said = parse(failure(-32600, "why\nnot", "x"))
    assert (said.kind, said.id) == ("answer", "x")
    assert parse(failure(-32700, "why", None)).id is None
