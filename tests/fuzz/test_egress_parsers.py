"""What parses bytes from a sandbox or the internet never fails in a way of its own, however it is cut.

Each target is a function of bytes that raises when something is wrong; the test runs it over mutations of a corpus.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from capsule.egress.asks import AnswerError, parse_answer
from capsule.egress.dns import Question, answer, parse
from capsule.egress.dns_record import describe
from capsule.egress.frames import encode
from capsule.egress.hello import HelloError, read_hello
from capsule.egress.mcp_message import McpExchange
from capsule.egress.model.call import ModelCall
from capsule.egress.model.sse import EventStream
from capsule.egress.model.turns import Turns
from capsule.egress.placeholders import Placeholders
from capsule.egress.pool import Pool
from tests.egress.model import answers
from tests.egress.secret_session import HOLD, PLACEHOLDERS, outgoing, session
from tests.fuzz.mutation import cut, mutated, mutated_json

EVENTS = "text/event-stream"
GOOGLE = "generativelanguage.googleapis.com"
CALLS: dict[str, tuple[str, str, Any, str, bytes]] = {
    "messages": (
        "api.anthropic.com",
        "/v1/messages",
        answers.MESSAGES_REQUEST,
        EVENTS,
        answers.MESSAGES_STREAM,
    ),
    "chat": ("api.openai.com", "/v1/chat/completions", answers.CHAT_REQUEST, EVENTS, answers.CHAT_STREAM),
    "responses": (
        "api.openai.com",
        "/v1/responses",
        answers.RESPONSES_REQUEST,
        EVENTS,
        answers.RESPONSES_STREAM,
    ),
    "generate": (GOOGLE, answers.GENERATE_PATH, answers.GENERATE_REQUEST, EVENTS, answers.GENERATE_STREAM),
    "native": (
        "localhost",
        "/api/chat",
        answers.NATIVE_REQUEST,
        "application/x-ndjson",
        answers.NATIVE_STREAM,
    ),
}
WHOLE = {
    "messages": answers.MESSAGES_WHOLE,
    "responses": answers.RESPONSES_WHOLE,
    "generate": answers.GENERATE_PARTS,
}


def hello() -> bytes:
    def block(size: int, data: bytes) -> bytes:
        return len(data).to_bytes(size, "big") + data

    extensions = b"".join(
        struct.pack(">H", kind) + block(2, data)
        for kind, data in (
            (0, block(2, b"\0" + block(2, b"a.example"))),
            (16, block(2, block(1, b"h2") + block(1, b"http/1.1"))),
            (0xFE0D, b"\0" * 8),
            (43, block(1, b"\x03\x04")),
        )
    )
    body = (
        b"\x03\x03"
        + bytes(32)
        + block(1, bytes(32))
        + block(2, b"\x13\x01")
        + block(1, b"\0")
        + block(2, extensions)
    )
    return b"\x16\x03\x01" + block(2, b"\x01" + block(3, body))


def target_hello(data: bytes) -> None:
    try:
        whole = read_hello(data)
    except HelloError:
        return
    for end in range(0, len(data), 7):  # whatever is known early is what is known at last
        try:
            early = read_hello(data[:end])
        except HelloError as error:
            raise AssertionError(f"refused at {end} bytes and not at the end") from error
        assert early is None or early == whole


def target_dns(data: bytes) -> None:
    question = parse(data, "udp")
    if isinstance(question, Question):
        encode({"dns": describe(question, answer(question, Pool(), allowed=True))})


def target_sse(data: bytes) -> None:
    whole = EventStream().feed(data)
    stream = EventStream()
    assert [event for piece in cut(len(data), data) for event in stream.feed(piece)] == whole


def told(kind: str, content_type: str, coding: str, pieces: list[bytes]) -> dict[str, Any]:
    host, path, request, _, _ = CALLS[kind]
    call = ModelCall.begin(host, path, json.dumps(request).encode())
    assert call is not None
    call.answers(content_type, coding)
    for piece in pieces:
        call.feed(piece)
    event = call.event()
    encode(event)
    return event


def target_answer(kind: str) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        for content_type in (CALLS[kind][3], "application/json"):
            whole = told(kind, content_type, "", [data])
            assert told(kind, content_type, "", cut(len(data), data)) == whole
        told(kind, "text/event-stream", "gzip", [data])

    return target


def target_request(kind: str) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        call = ModelCall.begin(CALLS[kind][0], CALLS[kind][1], data)
        if call is not None:
            encode(call.event())
            if call.request is not None:
                Turns().link(call.request, "e-1")

    return target


MCP = [
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "x", "arguments": {"a": [1, "é"]}},
    },
    {"jsonrpc": "2.0", "id": "7", "result": {"isError": True, "content": []}},
    [
        {"jsonrpc": "2.0", "method": "notifications/x"},
        {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "m"}},
    ],
]


def target_mcp(data: bytes) -> None:
    for content_type, body in (("application/json", data), ("text/event-stream", b"data: " + data + b"\n\n")):
        seen = McpExchange("m.example", ["mcp-session-id"])
        seen.request(json.dumps(MCP[0]).encode())
        events = seen.request(data)
        seen.answers(content_type)
        for piece in cut(len(body), body):
            events += seen.feed(piece)
        encode([*events, *seen.finish()])


def target_placeholders(data: bytes) -> None:
    scanner = Placeholders(PLACEHOLDERS).scanner()
    seen = {name for piece in cut(len(data), data) for name in scanner.feed(piece)}
    assert Placeholders(PLACEHOLDERS).plain(data) <= seen <= set(PLACEHOLDERS)


def target_secrets(data: bytes) -> None:
    sent = outgoing("api.forge.example", (b"authorization", data), (b"cookie", data), target=b"/?" + data)
    filled = session().fill(sent, 0)
    if filled.elsewhere:
        assert (filled.target, list(filled.headers)) == (sent.target, list(sent.headers))


def target_asks(data: bytes) -> None:
    try:
        parse_answer(data)
    except AnswerError:
        return


def _dns() -> list[bytes]:
    import dns.message

    return [
        dns.message.make_query(name, kind, use_edns=edns, id=1).to_wire()
        for name, kind, edns in (("a.example", "A", False), ("B.example", "AAAA", 0), (".", "NS", True))
    ]


LINES = b"\xef\xbb\xbfdata: a\r\rdata\r\nid:1\n:c\n\nevent: x\ndata:b\n\n"
TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes], int]] = {
    "hello": (target_hello, [hello(), hello()[:40] + b"\x16\x03\x01\x00\x20" + hello()[40:]], 3000),
    "dns": (target_dns, _dns(), 6000),
    "sse": (target_sse, [answers.MESSAGES_STREAM, LINES], 3000),
    "mcp": (target_mcp, [json.dumps(value).encode() for value in MCP], 1500),
    "placeholders": (
        target_placeholders,
        [b"%63x".join([HOLD["github"], HOLD["maps"]]), HOLD["oauth"] * 3],
        1500,
    ),
    "secrets": (
        target_secrets,
        [b"Bearer " + HOLD["github"], b"api+key=" + HOLD["maps"], b"Basic Zm9vOmJhcg=="],
        1500,
    ),
    "asks": (target_asks, [b'{"action": "allow", "scope": "host", "for": "10m"}'], 3000),
}
for _kind, (_, _, _request, _, _stream) in CALLS.items():
    _answers = [_stream, json.dumps(WHOLE.get(_kind, {})).encode()]
    TARGETS[f"answer-{_kind}"] = (target_answer(_kind), _answers, 400)
    TARGETS[f"request-{_kind}"] = (target_request(_kind), [json.dumps(_request).encode()], 800)


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_near_the_real_ones(name: str) -> None:
    target, corpus, count = TARGETS[name]
    for data in corpus:
        target(data)
    for data in mutated(len(name), corpus, count):
        target(data)


@pytest.mark.parametrize("kind", CALLS)
def test_json_near_the_real_requests_and_answers(kind: str) -> None:
    for value in mutated_json(1, [CALLS[kind][2]], 1500):
        target_request(kind)(json.dumps(value).encode())
    lines = [line.partition(b"data: ")[2] or line for line in CALLS[kind][4].split(b"\n") if b"{" in line]
    parts = [json.loads(line) for line in lines]
    whole = WHOLE.get(kind, parts[-1])
    stream = kind != "native"
    for number, value in enumerate(mutated_json(2, [*parts, whole], 1500)):
        text = json.dumps(value).encode()
        told(kind, "application/json", "", [text])
        frame = b"data: %s\n\n" if stream else b"%s\n"
        before = b"".join(frame % json.dumps(part).encode() for part in parts[: number % len(parts)])
        told(kind, CALLS[kind][3], "", [before + frame % text])


@pytest.mark.parametrize("name", ["mcp"])
def test_json_near_the_real_messages(name: str) -> None:
    for value in mutated_json(3, MCP, 3000):
        TARGETS[name][0](json.dumps(value).encode())


@pytest.mark.serial
@pytest.mark.parametrize("kind", ["messages", "native"])
@pytest.mark.parametrize("piece", [b"x", b"\n", b": \n", b"data: {}\n\n", b"data: x\n", b"{}\n"])
def test_small_pieces_of_a_long_answer_stay_cheap(kind: str, piece: bytes) -> None:
    """Work grows with the bytes, not with their square: 400 KB in pieces of 64 bytes and less."""
    whole = piece * (400_000 // len(piece))
    start = time.perf_counter()
    told(kind, CALLS[kind][3], "", [whole[at : at + 64] for at in range(0, len(whole), 64)])
    assert time.perf_counter() - start < 8
