"""Messages that stand in a body one after another, each with its length before it, freed of secrets' values.

Pure. gRPC's (its *Length-Prefixed-Message*) and Connect's streams: a byte of flags, four of length, the message. Who
streams so may wait for an answer before more is said, so what is held back behind a message's end must not wait for the
next one: a few bytes that may be the beginning of a value go on there. Nothing but these is risked where somebody else
has the lengths in hand: they are still searched as one with what follows. All lengths stay as they are, as messages
have more lengths within. Refuses an answer whose messages are compressed, in which nothing can be found.

    if enveloped("application/grpc+proto"):
        stream = EnvelopeStream(echoes)
        stream.feed(data), stream.end()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from capsule.egress.echoes import Echoes

_HEAD = 5
_MOST = 3
"""Bytes of what may be a value's beginning that go on at a message's end."""
_KINDS = ("application/grpc", "application/connect+")
_AS_TEXT = "application/grpc-web-text"
_ACCEPTED = ("grpc-accept-encoding", "connect-accept-encoding")
_CODED = ("grpc-encoding", "connect-content-encoding")


def enveloped(content_type: str) -> bool:
    """Whether a body of this type is such messages."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith(_KINDS) and not kind.startswith(_AS_TEXT)


def accepted_codings(fields: Mapping[str, str]) -> Iterator[str]:
    """The headers of a request in which a program says how messages to it may be compressed."""
    return (name for name in _ACCEPTED if name in fields)


def coding(untrusted_fields: Mapping[str, str]) -> str:
    """How messages of an answer are compressed; empty: not at all."""
    named = (untrusted_fields.get(name, "").strip().lower() for name in _CODED)
    return next((name for name in named if name not in ("", "identity")), "")


class EnvelopeStream:
    """One body, fed as an `EchoStream` is."""

    def __init__(self, echoes: Echoes) -> None:
        self._echo = echoes.stream(keep_length=True)
        self._head = bytearray()
        self._left = 0

    @property
    def count(self) -> int:
        """Values that were replaced so far."""
        return self._echo.count

    def feed(self, untrusted_data: bytes) -> bytes:
        """What may go on now."""
        out = bytearray()
        rest = untrusted_data
        while rest:
            if self._left:
                part = rest[: self._left]
                self._left -= len(part)
            else:
                part = rest[: _HEAD - len(self._head)]
                self._head += part
                if len(self._head) == _HEAD:
                    self._left = int.from_bytes(self._head[1:], "big")
                    self._head.clear()
            out += self._echo.feed(part)
            if not self._left and not self._head:
                out += self._echo.release(_MOST)
            rest = rest[len(part) :]
        return bytes(out)

    def end(self) -> bytes:
        """The rest, when the body is over."""
        return self._echo.end()
