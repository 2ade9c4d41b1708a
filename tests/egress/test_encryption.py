"""Certificates toward the program, verification toward the upstream: by OpenSSL, in memory."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from capsule.egress import encryption
from capsule.egress.encryption import Encryption, host_authorities
from tests.egress.certificates import DAY, NOW, Pair, make


class Signing:
    """Leaves by an authority of the test's own."""

    def __init__(self) -> None:
        self.authority = make("authority")
        self.between = make("session", self.authority)
        self.made: list[str] = []

    def leaf(self, name: str) -> tuple[Any, Any, list[Any]]:
        self.made.append(name)
        pair = make(name, self.between, names=(name,))
        return pair.certificate, pair.key, [self.between.certificate]


def handshake(ours: SSL.Connection, theirs: ssl.SSLObject, into: ssl.MemoryBIO, out: ssl.MemoryBIO) -> None:
    """Until both have said all, or one refuses."""
    done = False
    for _ in range(10):
        try:
            theirs.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        if data := out.read():
            ours.bio_write(data)
        finished = False
        try:
            ours.do_handshake()
            finished = True
        except SSL.WantReadError:
            pass
        try:
            while True:
                into.write(ours.bio_read(65536))
        except SSL.WantReadError:
            pass
        if done and finished:
            return
    raise AssertionError("the handshake did not end")


def test_the_program_sees_our_leaf_and_the_protocol_is_chosen(tmp_path: Path) -> None:
    signing = Signing()
    ours = Encryption(signing, [])
    trust, _ = signing.authority.write(tmp_path, "ca")
    for protocols, chosen in (((b"h2", b"http/1.1"), "h2"), ((b"http/1.1",), "http/1.1"), ((), None)):
        context = ssl.create_default_context(cafile=str(trust))
        context.set_alpn_protocols(["http/1.1", "h2"])
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(into, out, server_hostname="a.example")
        handshake(ours.toward_program("a.example", protocols), client, into, out)
        assert client.selected_alpn_protocol() == chosen
    assert signing.made == ["a.example"] * 3


def outward(tmp_path: Path, pair: Pair, authority: Pair, name: str = "a.example") -> str:
    """The upstream's certificate against ours; what OpenSSL says, or nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair.write(tmp_path, "leaf"))
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(into, out, server_side=True)
    connection = Encryption(Signing(), [authority.pem.decode()]).toward_upstream(name, [b"h2"])
    try:
        with pytest.raises(SSL.WantReadError):
            connection.do_handshake()
        into.write(connection.bio_read(65536))
        handshake(connection, server, into, out)
    except SSL.Error as error:
        return str(error)
    return ""


def test_a_good_certificate_and_every_bad_one(tmp_path: Path) -> None:
    authority, stranger = make("good"), make("stranger")
    assert outward(tmp_path, make("x", authority, names=("a.example",)), authority) == ""
    wild = make("x", authority, names=("*.w.example",))
    assert outward(tmp_path, wild, authority, "a.w.example") == ""
    assert outward(tmp_path, make("x", authority, names=("127.0.0.1",)), authority, "127.0.0.1") == ""
    bad = [
        make("a.example", authority, names=("b.example",)),
        make("x", authority, names=("*.w.example",)),
        make("x", stranger, names=("a.example",)),
        make("x", names=("a.example",)),
        make("x", authority, names=("a.example",), end=NOW - datetime.timedelta(hours=1)),
        make("x", authority, names=("a.example",), start=NOW + DAY),
    ]
    for pair in bad:
        assert "certificate verify failed" in outward(tmp_path, pair, authority)


def test_sessions_share_what_they_trust_only_where_it_is_the_very_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: an authority of one session's policy is trusted by another one that has none, or others."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(make("host").pem)
    monkeypatch.setattr(encryption, "host_authorities", lambda: str(bundle))
    one, two = (make(name) for name in ("one", "two"))

    def session(*authorities: Pair) -> Encryption:
        return Encryption(Signing(), [each.pem.decode() for each in authorities])

    leaf = make("a.example", one, names=("a.example",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*leaf.write(tmp_path, "leaf"))

    def trusts(own: Encryption) -> bool:
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(into, out, server_side=True)
        try:
            ours = own.toward_upstream("a.example", [])
            with pytest.raises(SSL.WantReadError):
                ours.do_handshake()
            into.write(ours.bio_read(65536))
            handshake(ours, server, into, out)
        except SSL.Error:
            return False
        return True

    assert trusts(session(one))
    assert trusts(session(two, one))
    for other in (session(), session(two), session(), session(two)):
        assert not trusts(other)
    assert session()._outward is session()._outward, "read once"
    assert session(one)._outward is session(one)._outward
    before = session()._outward
    bundle.write_bytes(one.pem)
    assert session()._outward is not before, "another bundle"
    assert trusts(session())


def test_what_the_upstream_speaks_is_offered_next_time() -> None:
    encryption = Encryption(Signing(), [])
    both = (b"http/1.1", b"h2", b"spdy")
    assert encryption.offered("a.example", 443, both) == (b"h2", b"http/1.1")
    encryption.learned("a.example", 443, b"http/1.1")
    assert encryption.offered("a.example", 443, both) == (b"http/1.1",)
    assert encryption.offered("a.example", 8443, both) == (b"h2", b"http/1.1")
    encryption.learned("a.example", 443, b"h2")
    assert encryption.offered("a.example", 443, both) == (b"h2", b"http/1.1")


def test_the_hosts_bundle_is_found() -> None:
    found = host_authorities()
    assert found is None or Path(found).is_file()
