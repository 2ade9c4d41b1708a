"""Frames over a real socket pair: whole, split, too long, cut, doubled."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.sdk.wire import MAX_ENVELOPE, WireError, length, pack, receive, receive_next, split


@given(st.dictionaries(st.text(), st.integers()), st.binary(max_size=100))
def test_a_frame_is_its_length_its_envelope_and_its_body(envelope: dict[str, int], body: bytes) -> None:
    frame = pack(envelope, body)
    assert length(frame[:4], 1 << 20) == len(frame) - 4
    assert split(frame[4:]) == (envelope, body)


def test_a_frame_that_comes_in_pieces_is_put_together() -> None:
    ours, theirs = socket.socketpair()
    body = bytes(range(256)) * 2000
    frame = pack({"kind": "x"}, body)

    def dribble() -> None:
        for at in range(0, len(frame), 70_001):
            theirs.sendall(frame[at : at + 70_001])

    with ours, theirs:
        sender = threading.Thread(target=dribble)
        sender.start()
        assert receive(ours, 1 << 20) == ({"kind": "x"}, body)
        sender.join()


def test_frames_in_a_row_are_taken_one_by_one() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(pack({"n": 1}) + pack({"n": 2}, b"b"))
        head = ours.recv(2)
        assert receive_next(ours, 100, head) == ({"n": 1}, b"")
        assert receive_next(ours, 100) == ({"n": 2}, b"b")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", "the connection ended"),
        (b"\x00\x00", "within a frame"),
        (b"\x00\x00\x00\x05{}\n", "within a frame"),
        (b"\xff\xff\xff\xff", "4294967295 bytes where at most 1000"),
        (pack({}) + b"\x00", "more than one frame"),
        (pack({}) + pack({}), "more than one frame"),
        (b"\x00\x00\x00\x02{}", "without an envelope"),
        (b"\x00\x00\x00\x03[]\n", "not an object"),
        (b"\x00\x00\x00\x03nop"[:6] + b"\n", "not JSON"),
        (b"\x00\x00\x03\x01" + b"[" * 768 + b"\n", "not (JSON|an object)"),
    ],
)
def test_what_is_not_one_frame_is_an_error(sent: bytes, message: str) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(sent)
        with pytest.raises(WireError, match=message):
            receive(ours, 1000)


def test_an_envelope_is_bounded() -> None:
    with pytest.raises(WireError, match="without an envelope"):
        split(b" " * MAX_ENVELOPE + b"{}\n")
