"""Messages with their lengths before them: nothing waits behind one's end, no value passes in any cut."""

from __future__ import annotations

import pytest

from capsule.egress.echoes import Echo, Echoes
from capsule.egress.envelope import EnvelopeStream, accepted_codings, coding, enveloped

PLACEHOLDER = b"capsule-secret-token-" + b"0123456789abcdef" * 2
VALUE = b"R9x_Qv7!kz-Wj3+Lm5"
INSTEAD = PLACEHOLDER[: len(VALUE)]
ECHOES = Echoes([Echo(VALUE, PLACEHOLDER)])


def message(text: bytes) -> bytes:
    return b"\0" + len(text).to_bytes(4, "big") + text


@pytest.mark.parametrize("text", [b"m5", b"R", b"", b"echo R9x", b"x" * 70_000 + b"52", b"Ujl", b"end%"])
@pytest.mark.parametrize("step", [1, 4, 1 << 20])
def test_a_message_goes_on_whole_when_it_is_there(text: bytes, step: int) -> None:
    stream = EnvelopeStream(ECHOES)
    for _ in range(3):
        sent = message(text)
        assert b"".join(stream.feed(sent[at : at + step]) for at in range(0, len(sent), step)) == sent
    assert stream.end() == b""


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
def test_a_value_in_a_message_is_the_placeholder_at_its_length(step: int) -> None:
    stream = EnvelopeStream(ECHOES)
    sent = message(b"a " + VALUE + b" b") + message(VALUE) + message(b"R9x") + message(b"_Qv7!")
    got = b"".join(stream.feed(sent[at : at + step]) for at in range(0, len(sent), step)) + stream.end()
    assert got == sent.replace(VALUE, INSTEAD)
    assert stream.count == 2


@pytest.mark.parametrize("step", [1, 6, 1 << 20])
@pytest.mark.parametrize("before", range(len(VALUE) + 1))
def test_lengths_that_lie_show_no_more_than_three_bytes(step: int, before: int) -> None:
    """Somebody makes a server say a value across what it also made look like a message's end."""
    stream = EnvelopeStream(ECHOES)
    sent = b"\0" + (2 + before).to_bytes(4, "big") + b"x " + VALUE + b" and more"
    got = b"".join(stream.feed(sent[at : at + step]) for at in range(0, len(sent), step)) + stream.end()
    assert len(got) == len(sent)
    assert stream.count == 1
    assert VALUE[3:] not in got
    assert not any(VALUE[at : at + 4] in got for at in range(len(VALUE) - 3)), got


def test_what_is_such_messages() -> None:
    assert enveloped("application/grpc")
    assert enveloped("Application/gRPC+proto; charset=x")
    assert enveloped("application/grpc-web+proto")
    assert enveloped("application/connect+json")
    assert not enveloped("application/grpc-web-text")
    assert not enveloped("application/json")


def test_how_they_are_compressed() -> None:
    assert coding({"grpc-encoding": "gzip"}) == "gzip"
    assert coding({"connect-content-encoding": "BR"}) == "br"
    assert coding({"grpc-encoding": "identity"}) == coding({}) == ""
    assert list(accepted_codings({"grpc-accept-encoding": "gzip"})) == ["grpc-accept-encoding"]
