"""Messages: the vectors of both sides, and what a guest may not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsem.wire.frame import FrameError, FrameReader, Message
from capsem.wire.guest import (
    ARGUMENTS_LIMIT,
    CONTROL,
    LIFECYCLE,
    MAY_SAY,
    PORTS,
    Change,
    Exec,
    Hello,
    Ping,
    Ran,
    decode,
    decode_host,
    encode,
    identity,
    stream_of,
)

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "vectors/wire/messages.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", VECTORS["guest"]["valid"], ids=lambda case: case["message"]["type"])
def test_what_a_guest_says(case: dict[str, Any]) -> None:
    said = decode(case["port"], Message(json.dumps(case["message"]).encode()))
    assert json.loads(encode(said)[5:]) == case["message"]
    for port in PORTS:
        if not isinstance(said, MAY_SAY[port]):
            with pytest.raises(FrameError, match="does not say"):
                decode(port, Message(json.dumps(case["message"]).encode()))


@pytest.mark.parametrize("case", VECTORS["guest"]["malformed"], ids=lambda case: case["name"])
def test_what_a_guest_may_not_say(case: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        decode(case["port"], Message(case["text"].encode()))


@pytest.mark.parametrize("case", VECTORS["host"]["valid"], ids=lambda case: case["message"]["type"])
def test_what_the_host_says(case: dict[str, Any]) -> None:
    said = decode_host(Message(json.dumps(case["message"]).encode()))
    assert json.loads(encode(said)[5:]) == case["message"]


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in VECTORS["host"]["malformed"]
        if " on " not in case["name"] or "terminal" in case["name"]
    ],
    ids=lambda case: case["name"],
)
def test_what_the_host_may_not_say(case: dict[str, Any]) -> None:
    """Ports are the agent's to check; its own tests read the same vectors."""
    with pytest.raises(FrameError):
        decode_host(Message(case["text"].encode()))


@settings(max_examples=300)
@given(st.sampled_from(PORTS), st.binary(min_size=2, max_size=200))
def test_any_bytes_are_a_message_or_refused(port: int, body: bytes) -> None:
    try:
        said = decode(port, Message(body))
    except FrameError:
        return
    assert isinstance(said, MAY_SAY[port])


_ODD = (
    st.none()
    | st.integers()
    | st.text(max_size=30)
    | st.lists(st.text(max_size=3), max_size=40)
    | st.booleans()
)


@settings(max_examples=400)
@given(
    st.sampled_from([
        {"type": "ran", "pid": 5, "parent": 1, "uid": 0, "program": "/bin/sh", "argv": ["sh"], "cut": False},
        {"type": "ended", "pid": 5, "code": 0, "signal": None},
        {"type": "change", "what": "write", "path": "/w/a", "from": None},
        {"type": "lost", "what": "changes", "count": 3},
    ]),
    st.dictionaries(
        st.sampled_from(["pid", "parent", "uid", "program", "argv", "cut", "code", "signal", "what", "path", "from"]),
        _ODD, max_size=3,
    ),
)  # fmt: skip
def test_any_report_is_bounded_or_refused(good: dict[str, Any], odd: dict[str, Any]) -> None:
    body = json.dumps(good | odd).encode()
    try:
        said = decode(LIFECYCLE, Message(body))
    except FrameError:
        return
    assert json.loads(encode(said)[5:]) == good | odd, (
        "nothing is added, dropped or turned into something else"
    )
    if isinstance(said, Ran):
        assert sum(map(len, said.argv or ())) <= ARGUMENTS_LIMIT
    if isinstance(said, Change):
        assert said.path.startswith("/")
        assert len(said.path) <= 4095


def test_depth_is_refused_and_not_run_out_of() -> None:
    with pytest.raises(FrameError):
        decode(CONTROL, Message(b"[" * 100_000))
    with pytest.raises(FrameError):
        decode(
            CONTROL, Message(b'{"type":"result","id":1,"value":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001)
        )


def test_an_identity_is_checked_where_it_is_made() -> None:
    assert identity(bytes(32), "vm-1", 0).hostname == "vm-1"
    wrong = [(bytes(size), "vm", 0) for size in (31, 513)]
    wrong += [(bytes(32), name, 0) for name in ("-vm", "", "a\n")]
    for entropy, hostname, clock in [*wrong, (bytes(32), "vm", -1)]:
        with pytest.raises((ValueError, msgspec.ValidationError)):
            identity(entropy, hostname, clock)


def test_streams_of_a_job_do_not_meet() -> None:
    numbers = [stream_of(job, which) for job in (1, 2, (1 << 30) - 1) for which in range(3)]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 1 << 32


def test_a_message_is_one_frame() -> None:
    assert FrameReader().feed(encode(Ping(1))) == [Message(b'{"type":"ping","id":1}')]
    long = Exec(1, ("x" * 600_000,), {}, "/", 0, 0, False, None, None)
    with pytest.raises(ValueError, match="allowed"):
        encode(long)
    assert Hello in MAY_SAY[CONTROL]
