"""What the first bytes of a connection, a question for a name and a stream of events are read by, as targets.

Each check refuses what no input may do: another answer for the same bytes cut otherwise, an error of another kind,
an entry that no log would take.

    fuzz(HELLO, seed=1, inputs=1000, seconds=2)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterable

from capsule.egress.dns import Question, answer, parse
from capsule.egress.dns_record import describe
from capsule.egress.frames import encode
from capsule.egress.hello import HelloError, read_hello
from capsule.egress.model.sse import EventStream
from capsule.egress.pool import Pool
from tests.egress.model import answers
from tests.fuzz.engine import Target
from tests.fuzz.mutation import cut


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


def _dns() -> list[bytes]:
    import dns.message

    return [
        dns.message.make_query(name, kind, use_edns=edns, id=1).to_wire()
        for name, kind, edns in (("a.example", "A", False), ("B.example", "AAAA", 0), (".", "NS", True))
    ]


LINES = b"\xef\xbb\xbfdata: a\r\rdata\r\nid:1\n:c\n\nevent: x\ndata:b\n\n"
HELLO_SEEDS = [hello(), hello()[:40] + b"\x16\x03\x01\x00\x20" + hello()[40:]]
DNS_SEEDS = _dns()
SSE_SEEDS = [answers.MESSAGES_STREAM, LINES]


def checking(run: Callable[[bytes], None]) -> Callable[[bytes], Iterable[Hashable]]:
    """A check that reaches nothing but code."""

    def check(data: bytes) -> Iterable[Hashable]:
        run(data)
        return ()

    return check


HELLO = Target("hello", checking(target_hello), HELLO_SEEDS, ("capsule/egress/hello.py",))
DNS = Target("dns", checking(target_dns), DNS_SEEDS, ("capsule/egress/dns", "capsule/egress/pool.py"))
SSE = Target(
    "sse",
    checking(target_sse),
    SSE_SEEDS,
    ("capsule/egress/model/sse.py",),
    (b"data:", b"id:", b"event:", b"\r\n"),
)
