from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsem.errors import WireError
from capsem.wire.frame import FrameReader, Message
from capsem.wire.monitor import (
    Exec,
    Exited,
    Failed,
    File,
    Info,
    Result,
    Signal,
    Size,
    Started,
    Stop,
    decode_client,
    decode_monitor,
    encode,
    refusal,
)

FROM_CLIENTS = [
    Info(),
    Exec(argv=("ls", "-l"), env={"A": "b"}, cwd="/x", user=1, stdin=True, tty=Size(24, 80), timeout_ms=5),
    Signal(9),
    File("write", "/x", mode=0o600),
    Stop(force=True),
]
FROM_MONITORS = [
    Started(1),
    Exited(0, None, False, 1, 2),
    Result({"size": 1}),
    Failed("MachineError", "m", "n", "ENOENT"),
]


def message(data: bytes) -> Message:
    (frame,) = FrameReader().feed(data)
    assert isinstance(frame, Message)
    return frame


@pytest.mark.parametrize("said", FROM_CLIENTS, ids=lambda said: type(said).__name__)
def test_a_client_is_understood(said: Exec) -> None:
    assert decode_client(message(encode(said))) == said


@pytest.mark.parametrize("said", FROM_MONITORS, ids=lambda said: type(said).__name__)
def test_a_monitor_is_understood(said: Started) -> None:
    assert decode_monitor(message(encode(said))) == said


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b'{"type":"info","more":1}', b'{"type":"exec","argv":[]}', b'{"type":"exec","argv":["a"],"cwd":"x"}',
        b'{"type":"signal","number":0}', b'{"type":"signal","number":65}', b'{"type":"file","op":"chmod","path":"/x"}',
        b'{"type":"file","op":"read","path":"x"}', b'{"type":"file","op":"read","path":"/x\\u0000"}',
        b'{"type":"started","pid":1}', b'{"type":"exec","argv":["a"],"tty":{"rows":0,"columns":1}}',
        b'{"type":"file","op":"write","path":"/x","mode":4095}', b"\xff\xff", b"[" * 5000,
        b'{"type":"exec","argv":["a","b\\u0000"]}', b'{"type":"exec","argv":["a"],"env":{"A=B":"c"}}',
        b'{"type":"exec","argv":["a"],"env":{"":"c"}}', b'{"type":"exec","argv":["a"],"env":{"A":"\\u0000"}}',
        b'{"type":"exec","argv":["a"],"cwd":"/' + "é".encode() * 3000 + b'"}',
        b'{"type":"file","op":"read","path":"/' + "é".encode() * 3000 + b'"}',
    ],
)  # fmt: skip
def test_what_is_not_of_the_form_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_client(Message(body))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Exec(argv=()), "argv"),
        (Exec(argv=("a\0",)), "zero byte"),
        (Exec(argv=("a",), env={"A=B": "c"}), "'A=B' is no variable"),
        (Exec(argv=("a",), cwd="here"), "'here' is no absolute path"),
        (File("read", "here"), "'here' is no absolute path"),
        (File("rename", "/a", to="b\0"), "is no absolute path"),
        (Exec(argv=("a",), user=-1), "user"),
        (File("read", "/" + "é" * 3000), "more than 4095 bytes"),
    ],
)
def test_what_no_machine_could_do_is_refused_before_it_is_sent(said: Exec | File, why: str) -> None:
    assert why in (refusal(said) or "")


@pytest.mark.parametrize("said", FROM_CLIENTS, ids=lambda said: type(said).__name__)
def test_what_can_be_done_is_not(said: Exec) -> None:
    assert refusal(said) is None


def test_a_monitor_from_before_a_field_is_not_told_of_it() -> None:
    body = message(encode(File("read", "/x"))).body
    assert body == b'{"type":"file","op":"read","path":"/x"}'


@given(st.binary(min_size=2, max_size=200))
def test_any_bytes_are_a_message_or_a_refusal(body: bytes) -> None:
    for decode in (decode_client, decode_monitor):
        with contextlib.suppress(WireError):
            decode(Message(body))
