r"""What a TLS ClientHello says before anything is decrypted: server name, protocols offered.

Pure; RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301. Refuses records that are not a handshake, a hello over 64 KiB, two names,
a name that is not ASCII, and lengths that do not add up. Encrypted Client Hello (RFC 9849) is noticed, because the name
in sight is then not the name that is meant.

    read_hello(b"\x16\x03\x01…")    # Hello(name="a.example", protocols=(b"h2", b"http/1.1"), encrypted=False)
    read_hello(b"\x16\x03")          # None: more is needed
"""

from __future__ import annotations

from dataclasses import dataclass

LIMIT = 64 << 10
RECORDS = 64
"""Pieces that a ClientHello may come in: what came is read again with each, so there must not be one for each byte."""
_HANDSHAKE, _CLIENT_HELLO = 0x16, 1
_SERVER_NAME, _ALPN = 0, 16
_ENCRYPTED = frozenset({0xFE0D, 0xFD00})  # the extension of RFC 9849 and of its drafts


class HelloError(ValueError):
    """Not a ClientHello that this host speaks to."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The part of a ClientHello that decides.

    Attributes:
        name: the server name as sent, lower case, or None.
        protocols: ALPN, in the client's order.
        encrypted: an encrypted inner hello is there too.
    """

    name: str | None
    protocols: tuple[bytes, ...]
    encrypted: bool


class _Bytes:
    """A cursor that refuses to read past its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if len(self.data) - self.at < count:
            raise HelloError("a length in the ClientHello points past its end")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> _Bytes:
        return _Bytes(self.take(self.number(size)))

    @property
    def left(self) -> bool:
        return self.at < len(self.data)


def looks_like_tls(untrusted_data: bytes) -> bool:
    """Whether these first bytes can only be a TLS record."""
    return untrusted_data[:1] == b"\x16" and untrusted_data[1:2] in (b"\x03", b"")


def read_hello(untrusted_data: bytes) -> Hello | None:
    """The hello in these bytes, or None while more is needed.

    Raises:
        HelloError: it never will be one.
    """
    message = bytearray()
    at = 0
    for _ in range(RECORDS):
        if len(untrusted_data) - at < 5:
            return None
        if untrusted_data[at] != _HANDSHAKE or untrusted_data[at + 1] != 3:
            raise HelloError("not a TLS handshake record")
        size = int.from_bytes(untrusted_data[at + 3 : at + 5], "big")
        if size == 0:
            raise HelloError("an empty handshake record")
        message += untrusted_data[at + 5 : at + 5 + size]
        if message[:1] and message[0] != _CLIENT_HELLO:
            raise HelloError("the first handshake message is not a ClientHello")
        length = int.from_bytes(message[1:4], "big")
        if len(message) >= 4 and length > LIMIT:
            raise HelloError(f"a ClientHello of {length} bytes; at most {LIMIT} are read")
        if len(message) >= 4 + length and len(message) >= 4:
            return _parse(bytes(message[4 : 4 + length]))
        if len(untrusted_data) < at + 5 + size:
            return None
        at += 5 + size
    raise HelloError(f"a ClientHello in more than {RECORDS} records")


def _parse(body: bytes) -> Hello:
    hello = _Bytes(body)
    hello.take(2 + 32)  # legacy version, random
    hello.block(1)  # session id
    hello.block(2)  # cipher suites
    hello.block(1)  # compression
    name: str | None = None
    protocols: tuple[bytes, ...] = ()
    encrypted = False
    if not hello.left:
        return Hello(None, (), False)
    extensions = hello.block(2)
    seen: set[int] = set()
    while extensions.left:
        kind, data = extensions.number(2), extensions.block(2)
        if kind in seen:
            raise HelloError(f"extension {kind} twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(data)
        elif kind == _ALPN:
            protocols = _protocols(data.block(2))
        elif kind in _ENCRYPTED:
            encrypted = True
    return Hello(name, protocols, encrypted)


def _server_name(data: _Bytes) -> str:
    names = data.block(2)
    if names.number(1) != 0:
        raise HelloError("a server name of an unknown type")
    untrusted_name = names.block(2).data
    if names.left:
        raise HelloError("two server names")
    if not untrusted_name or not untrusted_name.isascii() or b"\0" in untrusted_name:
        raise HelloError("a server name that is not a name")
    return untrusted_name.decode("ascii").lower().removesuffix(".")


def _protocols(data: _Bytes) -> tuple[bytes, ...]:
    found = []
    while data.left:
        found.append(data.block(1).data)
    return tuple(found)
