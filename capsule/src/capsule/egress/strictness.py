"""What a head must look like before it is carried on: nothing in it may mean one thing here and another outside.

Pure, for both directions and both versions (RFC 9110 §5, §9.1; RFC 9112 §3, §5.2, §6; RFC 9113 §8.2). Comes after a
parser that has split the head: what it let through is looked at again, because the same bytes are written into
HTTP/1.1 lines. Refuses by saying why: control characters and line ends in values (folded lines too), names and methods
that are no tokens, `content_length` and its like, of which a gateway makes the header (RFC 3875 §4.1.18), a target that
is not a path, a length that is not a plain number, a transfer coding but `chunked` (RFC 9112 §7), versions that are
neither 1.0 nor 1.1 where HTTP/1 is spoken.

    request_problem(b"GE(T", b"/", "HTTP/1.1", fields, http2=False)     # "the method b'GE(T' is not a token"
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from capsule.policy.fields import gateway_name

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_TARGET = re.compile(rb"[\x00-\x20\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# What frames a message or says who it is for is no affair of one connection (RFC 9110 §7.6.1).
_FRAMING = frozenset({b"content-length", b"host", b"transfer-encoding"})
# What says how the body is read, which is decided on.
_BODY = frozenset({b"content-type", b"content-encoding"})
# `identity`, which is none, stands in answers of old servers.
_PLAIN = (b"chunked", b"identity")
Fields = Iterable[tuple[bytes, bytes]]


def request_problem(
    untrusted_method: bytes, untrusted_target: bytes, version: str, untrusted_fields: Fields, *, http2: bool
) -> str | None:
    """Why a request is not carried; None when it may be.

    Args:
        untrusted_method: as sent.
        untrusted_target: path and query, whatever form it was sent in.
        version: as the parser has it, `HTTP/1.1`.
        untrusted_fields: the header fields in order, without pseudo-headers.
        http2: whether the program speaks HTTP/2 on this connection.
    """
    if version not in (("HTTP/2.0",) if http2 else ("HTTP/1.1", "HTTP/1.0")):
        return f"the version {version[:20]!r} is not spoken on this connection"
    if not _TOKEN.fullmatch(untrusted_method):
        return f"the method {untrusted_method[:40]!r} is not a token"
    if _NOT_IN_TARGET.search(untrusted_target):
        return f"the target {untrusted_target[:80]!r} has a space or a control character"
    if not untrusted_target.startswith(b"/") and (untrusted_method, untrusted_target) != (b"OPTIONS", b"*"):
        return f"the target {untrusted_target[:80]!r} is not a path"
    fields = tuple(untrusted_fields)
    for name, _ in fields:
        if not name.replace(b"-", b"").isalnum():
            plain = gateway_name(name.decode("latin-1"))
            if plain.encode("latin-1") in _FRAMING | _BODY and plain != name.decode("latin-1").lower():
                about = f"header {name[:40]!r} is one about framing or the body"
                return f"{about} to servers that take '_' and its like for '-'"
    return fields_problem(fields)


def fields_problem(untrusted_fields: Fields) -> str | None:
    """Why header fields are not carried; None when they may be."""
    for name, value in untrusted_fields:
        if not _TOKEN.fullmatch(name):
            return f"the header name {name[:40]!r} is not a token"
        if _CONTROL.search(value):
            return f"header {name[:40].decode()} has a line end or another control character"
        if name.lower() == b"content-length" and not _LENGTH.fullmatch(value.strip(b" \t")):
            return f"content-length {value[:40]!r} is not a length"
        if name.lower() == b"transfer-encoding" and value.strip(b" \t").lower() not in _PLAIN:
            return f"transfer-encoding {value[:40]!r} is more than chunks, and what is in them could not be looked at"
        if name.lower() == b"connection":
            dropped = _FRAMING & {word.strip(b" \t").lower() for word in value.split(b",")}
            if dropped:
                return f"connection would make the next server drop {min(dropped).decode()}"
    return None
