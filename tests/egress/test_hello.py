"""ClientHello: what real clients send, and what breaks a parser."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.hello import LIMIT, Hello, HelloError, looks_like_tls, read_hello


def real(name: str | None, protocols: list[str] | None = None) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(into, out, server_hostname=name).do_handshake()
    return out.read()


def block(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def built(*extensions: tuple[int, bytes]) -> bytes:
    """A hello by hand."""
    body = b"\x03\x03" + bytes(32) + block(1, b"") + block(2, b"\x13\x01") + block(1, b"\0")
    body += block(2, b"".join(struct.pack(">H", kind) + block(2, data) for kind, data in extensions))
    return b"\x16\x03\x01" + block(2, b"\x01" + block(3, body))


def server_name(*names: bytes) -> tuple[int, bytes]:
    return 0, block(2, b"".join(b"\0" + block(2, name) for name in names))


def test_a_real_hello() -> None:
    data = real("PyPI.example", ["h2", "http/1.1"])
    assert looks_like_tls(data)
    assert read_hello(data) == Hello("pypi.example", (b"h2", b"http/1.1"), encrypted=False)
    assert read_hello(real(None)) == Hello(None, (), encrypted=False)


def test_every_beginning_needs_more() -> None:
    data = real("a.example", ["h2"])
    assert [read_hello(data[:cut]) for cut in range(len(data))] == [None] * len(data)


def test_a_hello_in_several_records() -> None:
    data = real("a.example")
    message = data[5:]
    split = b"".join(b"\x16\x03\x01" + block(2, message[at : at + 50]) for at in range(0, len(message), 50))
    assert read_hello(split) == Hello("a.example", (), encrypted=False)
    assert read_hello(split + b"GARBAGE") == Hello("a.example", (), encrypted=False)


def test_an_encrypted_hello_is_noticed() -> None:
    found = read_hello(built(server_name(b"outer.example"), (0xFE0D, b"\0")))
    assert found == Hello("outer.example", (), encrypted=True)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02\x01\x00\x05hello",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01" + block(2, b"\x02" + block(3, b"x" * 50)),
        b"\x16\x03\x01" + block(2, b"\x01" + (LIMIT + 1).to_bytes(3, "big")),
        b"\x16\x03\x01" + block(2, b"\x01" + block(3, b"short")),
        built(server_name(b"a.example", b"b.example")),
        built(server_name(b"a.example"), server_name(b"b.example")),
        built(server_name(b"")),
        built(server_name(b"a\0.example")),
        built(server_name("\u00e4.example".encode())),
        built((0, block(2, b"\x01" + block(2, b"a.example")))),
        built((0, b"\0")),
        built((16, block(2, b"\x09h2"))),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(HelloError):
        read_hello(data)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(data: bytes) -> None:
    for untrusted in (data, b"\x16\x03\x01" + block(2, b"\x01" + block(3, data))):
        try:
            found = read_hello(untrusted)
        except HelloError:
            continue
        assert found is None or isinstance(found, Hello)
