"""One try to make two readers of the same bytes see different requests, and what must have become of it."""

from __future__ import annotations

from dataclasses import dataclass

Header = tuple[bytes, bytes]
Http2Stream = tuple[tuple[Header, ...], bytes, tuple[Header, ...]]
"""Headers, body, trailers."""


@dataclass(frozen=True)
class Http1:
    """Bytes on one connection; `%H` is the host, `%P` the case's own path prefix.

    Attributes:
        carried: the paths (without the prefix) that may arrive outside, in order; empty: the case is refused.
        ambiguous: readers outside would disagree about these bytes, were they passed on as they are.
    """

    name: str
    sent: bytes
    carried: tuple[str, ...] = ()
    ambiguous: bool = True


@dataclass(frozen=True)
class Http2:
    """Streams of one HTTP/2 connection, toward a server that speaks HTTP/1.1 only."""

    name: str
    streams: tuple[Http2Stream, ...]
    carried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a server answers, and whether the program may see it as one whole answer (`body`) or sees a failure."""

    name: str
    sent: bytes
    body: bytes | None = None
