"""Frames of a WebSocket in pieces of every size: counted, searched, refused."""

from __future__ import annotations

import base64

import pytest

from capsule.egress.echoes import Echo, Echoes
from capsule.egress.placeholders import SCANNED, Placeholders
from capsule.egress.websocket import Frames, closing

TOKEN = "capsule-secret-token-" + "0123456789abcdef" * 2
HELD = Placeholders({"token": TOKEN})
MASK = b"\xa1\x02\xf3\x04"


def frame(first: int, payload: bytes, *, mask: bool = True) -> bytes:
    size = len(payload)
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    length = b"" if short < 126 else size.to_bytes(2 if short == 126 else 8, "big")
    head = bytes([first, short | (0x80 if mask else 0)]) + length
    if not mask:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
def test_counts_and_the_close(step: int) -> None:
    seen = Frames(HELD)
    sent = frame(0x01, b"a" * 5) + frame(0x89, b"ping") + frame(0x80, b"b" * 300) + frame(0x82, b"c" * 70_000)
    sent += frame(0x88, (1001).to_bytes(2, "big") + b"bye")
    for at in range(0, len(sent), step):
        assert seen.out(sent[at : at + step]) is None
    back = frame(0x81, b"xy", mask=False) + frame(0x88, (1000).to_bytes(2, "big"), mask=False)
    for at in range(0, len(back), step):
        seen.into(back[at : at + step])
    assert seen.record() == {
        "messages_out": 2, "bytes_out": 70_305, "messages_in": 1, "bytes_in": 2, "closed_by": "program",
        "close_code": 1001,
    }  # fmt: skip


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    "sent",
    [
        frame(0x81, TOKEN.encode()),
        frame(0x81, b"x" * (SCANNED + 9) + TOKEN.encode()),
        frame(0x01, TOKEN[:9].encode())
        + frame(0x89, b"")
        + frame(0x89, b"?")
        + frame(0x80, TOKEN[9:].encode()),
        frame(0x82, base64.b64encode(b"ab" + TOKEN.encode() + b"c")),
        frame(0x89, TOKEN.encode()),
        frame(0x88, b"\x03\xe8" + TOKEN.encode()),
        frame(0x81, TOKEN.encode(), mask=False),
        frame(0xC1, b"packed"),
        frame(0x83, b"?"),
    ],
)
def test_what_does_not_go_out(sent: bytes, step: int) -> None:
    if len(sent) > SCANNED:
        step = 1 << 16
    seen = Frames(HELD)
    problems = [seen.out(sent[at : at + step]) for at in range(0, len(sent), step)]
    assert any(problems)
    assert seen.record()["close_code"] == 1008
    free = Frames(None)
    proper = sent[0] & 0x7F in (1, 2, 9, 8) and sent[1] & 0x80
    assert (free.out(sent) is None) is bool(proper), "without placeholders only what is a client's frame"


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    "sent",
    [
        b"GET /admin HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        frame(0x81, b"plain", mask=False),
        frame(0xA1, b"another reserved bit"),
        frame(0x8B, b"a reserved kind"),
        frame(0x89, b"p" * 126),
        frame(0x81, b"fine") + b"DELETE /admin HTTP/1.1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("extended", [False, True])
def test_nothing_but_frames_of_a_client_goes_out(sent: bytes, step: int, extended: bool) -> None:
    seen = Frames(None, extended=extended)
    assert any(seen.out(sent[at : at + step]) for at in range(0, len(sent), step))
    assert seen.malformed
    assert (seen.record()["closed_by"], seen.record()["close_code"]) == ("capsule", 1008)


def test_an_extension_has_its_bit_once_it_was_agreed_on() -> None:
    sent = frame(0x41, b"packed") + frame(0x80, b"and on")
    assert Frames(None, extended=True).out(sent) is None
    assert Frames(None).out(sent) is not None
    searching = Frames(HELD, extended=True)
    assert searching.out(sent) is not None, "what is compressed cannot be searched"
    assert not searching.malformed


def test_one_that_breaks_off_says_nothing_of_a_close() -> None:
    seen = Frames(None)
    seen.into(frame(0x81, b"half", mask=False)[:4])
    assert not seen.can_close
    assert not {"closed_by", "close_code"} & seen.record().keys()


VALUE = b"s3cr3t-value-of-the-token"
INSTEAD = TOKEN.encode()[: len(VALUE)]
ECHOES = Echoes([Echo(VALUE, TOKEN.encode())])


@pytest.mark.parametrize("step", [1, 2, 5, 1 << 20])
def test_a_value_that_comes_back_in_a_frame_is_the_placeholder_again(step: int) -> None:
    seen = Frames(HELD, ECHOES)
    around = [b'{"key": "', VALUE, b'"} ' + b"x" * 70_000 if step > 1 else b"x" * 200]
    sent = frame(0x81, b"".join(around), mask=False) + frame(0x89, b"ping", mask=False)
    sent += frame(0x82, VALUE[:-1], mask=False) + frame(0x82, base64.b64encode(VALUE), mask=False)
    sent += frame(0x88, b"\x03\xe8bye", mask=False)
    got = b"".join(seen.into(sent[at : at + step]) for at in range(0, len(sent), step))
    assert len(got) == len(sent), "the heads of frames hold as they are"
    assert VALUE not in got
    assert base64.b64encode(VALUE) not in got
    want = frame(0x81, b"".join([around[0], INSTEAD, around[2]]), mask=False) + frame(
        0x89, b"ping", mask=False
    )
    want += frame(0x82, VALUE[:-1], mask=False)
    assert got.startswith(want), "what is no value goes on as it is, at the end of its message at the latest"
    assert got.endswith(frame(0x88, b"\x03\xe8bye", mask=False))
    assert seen.redacted == 2
    assert (seen.record()["messages_in"], seen.record()["close_code"]) == (3, 1000)


def test_without_values_to_look_for_bytes_are_the_same() -> None:
    sent = frame(0x81, VALUE, mask=False)
    for seen in (Frames(HELD), Frames(None, Echoes([]))):
        assert seen.into(sent) is sent
        assert seen.redacted == 0


def test_our_close_is_short() -> None:
    sent = closing("é" * 200)
    assert sent[:1] == b"\x88"
    assert sent[1] == len(sent) - 2 <= 125
    sent[4:].decode()


@pytest.mark.parametrize("step", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize("cut", range(1, len(VALUE)))
def test_a_value_that_frames_of_a_message_share_is_found(cut: int, step: int) -> None:
    """A server cuts messages where its buffer ends, and the program chooses what stands before the value."""

    def message(text: bytes) -> bytes:
        whole = b"your key is " + text + b", keep it"
        at = 12 + cut
        sent = frame(0x01, whole[:at], mask=False) + frame(0x8A, b"pong", mask=False)
        sent += frame(0x00, b"", mask=False) + frame(0x00, whole[at : at + 1], mask=False)
        sent += frame(0x89, b"", mask=False) + frame(0x00, whole[at + 1 :], mask=False)
        return sent + frame(0x80, b"", mask=False)

    seen, sent = Frames(HELD, ECHOES), message(VALUE)
    got = b"".join(seen.into(sent[at : at + step]) for at in range(0, len(sent), step))
    assert got == message(INSTEAD), "frames stay as long as they are, and in order"
    assert (seen.redacted, seen.record()["messages_in"]) == (1, 1)
    assert seen.can_close
    control, other = Frames(HELD, ECHOES), message(VALUE[:-1] + b"X")
    assert b"".join(control.into(other[at : at + step]) for at in range(0, len(other), step)) == other


def test_what_waits_is_no_more_than_the_beginning_of_a_value() -> None:
    seen = Frames(HELD, ECHOES)
    assert seen.into(frame(0x01, b"free text ", mask=False)) == frame(0x01, b"free text ", mask=False)
    begun = frame(0x00, b"and " + VALUE[:6], mask=False)
    assert seen.into(begun) == begun[:-6]
    assert not seen.can_close
    assert seen.into(frame(0x89, b"?", mask=False)) == b"", "a ping is not put into a frame"
    end = frame(0x80, b"...", mask=False)
    assert seen.into(end) == VALUE[:6] + frame(0x89, b"?", mask=False) + end
    assert seen.can_close


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(("first", "code"), [(0x89, b""), (0x8A, b""), (0x88, b"\x03\xe8")])
def test_a_value_in_a_ping_pong_or_close_is_the_placeholder(first: int, code: bytes, step: int) -> None:
    seen, sent = Frames(HELD, ECHOES), frame(first, code + b"by " + VALUE, mask=False)
    got = b"".join(seen.into(sent[at : at + step]) for at in range(0, len(sent), step))
    assert got == frame(first, code + b"by " + INSTEAD, mask=False)
    assert seen.redacted == 1


@pytest.mark.parametrize(
    "sent",
    [frame(0xC1, VALUE, mask=False), frame(0x83, VALUE, mask=False), frame(0x81, VALUE),
     frame(0x89, b"p" * 126 + VALUE, mask=False)],
)  # fmt: skip
def test_a_frame_of_a_server_that_cannot_be_searched_ends_it(sent: bytes) -> None:
    seen = Frames(HELD, ECHOES)
    assert seen.into(sent) == b""
    assert seen.unreadable
    assert seen.record()["closed_by"] == "capsule"
    free = Frames(HELD, None)
    assert free.into(sent) == sent, "the control: without values nothing is looked for"
    assert free.unreadable is None
