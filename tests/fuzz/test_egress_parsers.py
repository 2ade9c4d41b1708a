"""What parses bytes from a sandbox or the internet never fails in a way of its own, however it is cut.

Each target is a function of bytes that raises when something is wrong; the test runs it over mutations of a corpus.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable

import pytest

from capsule.egress.asks import AnswerError, parse_answer
from capsule.egress.dns import parse
from capsule.egress.frames import FrameError, FrameReader, encode
from capsule.egress.hello import LIMIT, RECORDS, HelloError, read_hello
from capsule.egress.mcp_message import McpExchange
from capsule.egress.placeholders import Placeholders
from tests.egress.secret_session import HOLD, PLACEHOLDERS, outgoing, session
from tests.fuzz.egress import (
    DNS_SEEDS,
    HELLO_SEEDS,
    SSE_SEEDS,
    hello,
    target_dns,
    target_hello,
    target_sse,
)
from tests.fuzz.model import CALLS, WHOLE, target_answer, target_request, told
from tests.fuzz.mutation import cut, mutated, mutated_json


def target_frames(data: bytes) -> None:
    def read(pieces: list[bytes]) -> tuple[list[object], bool]:
        reader = FrameReader(1 << 20)
        found: list[object] = []
        try:
            for piece in pieces:
                found += reader.feed(piece)
        except FrameError:
            return found, True
        return found, False

    frames, refused = read([data])
    assert read(cut(len(data), data)) == (frames, refused)


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


def _frames() -> list[bytes]:
    flow = {
        "type": "flow",
        "source": "1.2.3.4:5",
        "target": "6.7.8.9:443",
        "pid": 7,
        "program": "/x",
        "argv": ["x"],
    }
    answer = {"type": "answer", "id": "q", "allow": True, "scope": "host", "for_ms": 5}
    more = {"type": "secret", "name": "t", "value": "v", "expires": None}
    event = {"type": "event", "entry": {"type": "exec", "seq": 7, "argv": ["x"]}}
    texts = [json.dumps(frame).encode() for frame in (flow, answer, more, event)]
    return [len(text).to_bytes(4, "big") + text for text in texts]


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes], int]] = {
    "hello": (target_hello, HELLO_SEEDS, 3000),
    "dns": (target_dns, DNS_SEEDS, 6000),
    "frames": (target_frames, [*_frames(), b"".join(_frames())], 4000),
    "sse": (target_sse, SSE_SEEDS, 3000),
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


def _pieces(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


def test_a_hello_may_come_in_pieces_and_not_in_crumbs() -> None:
    whole = hello()[5:]
    assert read_hello(_pieces(whole, -(-len(whole) // RECORDS))) == read_hello(hello())
    with pytest.raises(HelloError, match="more than 64 records"):
        read_hello(_pieces(whole, 1))


@pytest.mark.serial
def test_bytes_that_come_one_by_one_stay_cheap() -> None:
    """The worst that a program can make of what is read again with each byte that comes."""
    long = b"\x01" + LIMIT.to_bytes(3, "big") + bytes(LIMIT - 1)
    trickle = _pieces(long, -(-len(long) // (RECORDS - 1)))
    start = time.perf_counter()
    for end in range(0, len(trickle), 16):
        assert read_hello(trickle[:end]) is None
    assert time.perf_counter() - start < 5
    pointers = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\x01a" * 60 + b"\xc0\x0c" * 30000
    start = time.perf_counter()
    for end in range(0, len(pointers), 997):
        parse(pointers[:end], "tcp")
    assert time.perf_counter() - start < 5
    reader = FrameReader()
    start = time.perf_counter()
    for piece in [(1 << 20).to_bytes(4, "big"), *[b"x" * 16] * ((1 << 16) - 1)]:
        assert list(reader.feed(piece)) == []
    assert time.perf_counter() - start < 5


@pytest.mark.serial
@pytest.mark.parametrize("kind", ["messages", "native"])
@pytest.mark.parametrize("piece", [b"x", b"\n", b": \n", b"data: {}\n\n", b"data: x\n", b"{}\n"])
def test_small_pieces_of_a_long_answer_stay_cheap(kind: str, piece: bytes) -> None:
    """Work grows with the bytes, not with their square: 400 KB in pieces of 64 bytes and less."""
    whole = piece * (400_000 // len(piece))
    start = time.perf_counter()
    told(kind, CALLS[kind][3], "", [whole[at : at + 64] for at in range(0, len(whole), 64)])
    assert time.perf_counter() - start < 8
