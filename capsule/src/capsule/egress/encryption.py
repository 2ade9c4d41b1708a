"""TLS of inspected connections: certificates of our own toward the program, verification toward the upstream.

Needs Python 3.12 and pyOpenSSL (mitmproxy's layers speak it). Toward the program each name has one context, with a
leaf that the session's own intermediate signed. Toward the upstream the host's authorities count, and those of the
policy; the name is verified by OpenSSL, partial wildcards are not. Refuses TLS below 1.2 on both sides.

    encryption = Encryption(minter, authorities=[pem])
    data.ssl_conn = encryption.toward_program("a.example", protocols=(b"h2", b"http/1.1"))
"""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from OpenSSL import SSL

PROTOCOLS = (b"h2", b"http/1.1")
"""ALPN that is understood, in order of preference."""
_CONTEXTS = 512
_FRESH = 6 * 3600.0  # seconds that a leaf is shown before it is asked for again
_NO_PARTIAL_WILDCARDS = (
    0x4 | 0x20
)  # X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]


class Minter(Protocol):
    """Who makes a leaf: certificate, key, and the certificates between it and the authority."""

    def leaf(self, name: str) -> tuple[x509.Certificate, Any, Sequence[x509.Certificate]]:
        """A leaf for one name."""


@cache
def host_authorities() -> str | None:
    """The host's bundle of authorities: where OpenSSL looks, or where distributions keep it."""
    found = ssl.get_default_verify_paths()
    usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
    places = [found.cafile, found.openssl_cafile, *usual]
    return next((place for place in places if place and Path(place).is_file()), None)


class Encryption:
    """The TLS contexts of one session."""

    def __init__(self, minter: Minter, authorities: Sequence[str]) -> None:
        self._minter = minter
        self._inward: dict[tuple[str, tuple[bytes, ...]], tuple[float, SSL.Context]] = {}
        self._outward = _outward(tuple(authorities))
        self._only_old: set[tuple[str, int]] = set()

    def offered(self, host: str, port: int, wanted: Sequence[bytes]) -> tuple[bytes, ...]:
        """What the program asks for and this upstream is believed to speak, in our order."""
        known = PROTOCOLS if (host, port) not in self._only_old else PROTOCOLS[1:]
        return tuple(name for name in known if name in wanted)

    def learned(self, host: str, port: int, protocol: bytes | None) -> None:
        """The upstream chose: the next connection to it mirrors that."""
        if protocol == b"h2":
            self._only_old.discard((host, port))
        elif len(self._only_old) < 4096:
            self._only_old.add((host, port))

    def toward_program(self, name: str, protocols: tuple[bytes, ...]) -> SSL.Connection:
        """An accepting connection that answers as `name` and chooses the first of `protocols`."""
        now = time.monotonic()
        found = self._inward.get((name, protocols))
        if found is None or now - found[0] > _FRESH:
            if len(self._inward) >= _CONTEXTS:
                del self._inward[next(iter(self._inward))]
            found = self._inward[name, protocols] = now, self._answering(name, protocols)
        connection = SSL.Connection(found[1])
        connection.set_accept_state()
        return connection

    def _answering(self, name: str, protocols: tuple[bytes, ...]) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        certificate, key, chain = self._minter.leaf(name)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        for between in chain:
            context.add_extra_chain_cert(between)
        context.set_session_id(b"capsule")

        def choose(_: SSL.Connection, offered: list[bytes]) -> Any:
            return next(
                (protocol for protocol in protocols if protocol in offered), SSL.NO_OVERLAPPING_PROTOCOLS
            )

        context.set_alpn_select_callback(choose)
        return context

    def toward_upstream(self, name: str, protocols: Sequence[bytes]) -> SSL.Connection:
        """A connecting one that accepts only a valid certificate of `name`."""
        connection = SSL.Connection(self._outward)
        parameters = _lib.SSL_get0_param(connection._ssl)
        _lib.X509_VERIFY_PARAM_set_hostflags(parameters, _NO_PARTIAL_WILDCARDS)
        try:
            packed = ipaddress.ip_address(name).packed
        except ValueError:
            encoded = name.encode("ascii")
            connection.set_tlsext_host_name(encoded)
            done = _lib.X509_VERIFY_PARAM_set1_host(parameters, encoded, len(encoded))
        else:
            done = _lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))
        if done != 1:
            raise ValueError(f"{name!r} cannot be verified")
        if protocols:
            connection.set_alpn_protos(list(protocols))
        connection.set_connect_state()
        return connection


def _outward(authorities: tuple[str, ...]) -> SSL.Context:
    """The context of all who trust the very same: reading a bundle takes longer than the rest of a session's start.

    What is of one connection (name, protocols, session) is not in it, and nothing is added to it once it is made.
    """
    bundle = host_authorities()
    found = Path(bundle).stat() if bundle is not None else None
    stamp = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size) if found is not None else None
    return _trusting(bundle, stamp, authorities)


@lru_cache(maxsize=8)
def _trusting(
    bundle: str | None,
    stamp: tuple[int, ...] | None,  # noqa: ARG001 - another one is another bundle
    authorities: tuple[str, ...],
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_PEER, None)
    if bundle is not None:
        context.load_verify_locations(bundle)
    store = context.get_cert_store()
    assert store is not None
    for pem in authorities:
        for certificate in x509.load_pem_x509_certificates(pem.encode()):
            store.add_cert(_as_openssl(certificate))
    return context


def _as_openssl(certificate: x509.Certificate) -> Any:
    from OpenSSL.crypto import X509

    return X509.from_cryptography(certificate)
