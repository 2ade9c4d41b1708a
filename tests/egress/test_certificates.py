"""Authority, intermediate and leaf: judged by OpenSSL (through `ssl`) and by cryptography's own verifier."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.egress.certificates import (
    CONSTRAINTS,
    Issuer,
    SessionIssuer,
    UnusableNameError,
    belongs,
    constraints,
    make_authority,
    make_intermediate,
    make_leaf,
)

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


KEY = new_key()
AUTHORITY = Issuer(make_authority(KEY, NOW, 1), KEY)


def session(
    hosts: list[str] | None = None, clock: Callable[[], datetime.datetime] = lambda: NOW
) -> SessionIssuer:
    return SessionIssuer(
        AUTHORITY, hosts=hosts, clock=clock, new_key=new_key, serial=itertools.count(2).__next__
    )


def shake(
    issuer: SessionIssuer, certificate: str, asked: str, directory: Path, root: Issuer = AUTHORITY
) -> str | None:
    """A TLS handshake in memory: None when the client is content, else why it is not."""
    leaf, key, chain = issuer.leaf(certificate)
    pem = serialization.Encoding.PEM
    (directory / "chain.pem").write_bytes(b"".join(c.public_bytes(pem) for c in [leaf, *chain]))
    (directory / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "chain.pem", directory / "key.pem")
    client = ssl.create_default_context(cadata=root.certificate.public_bytes(pem).decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=asked),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return None


def test_the_authority() -> None:
    certificate = AUTHORITY.certificate
    assert certificate.not_valid_before_utc == NOW - 2 * DAY
    assert certificate.not_valid_after_utc > NOW + 3650 * DAY
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 1)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    certificate.verify_directly_issued_by(certificate)
    other = new_key()
    assert make_authority(other, NOW, 1).subject != certificate.subject, "two installations are told apart"


def test_the_intermediate() -> None:
    key = new_key()
    certificate = make_intermediate(AUTHORITY, key, NOW, 7, ["a.example"])
    certificate.verify_directly_issued_by(AUTHORITY.certificate)
    assert certificate.not_valid_after_utc == NOW + 7 * DAY
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert certificate.extensions.get_extension_for_class(x509.NameConstraints).critical
    unbound = make_intermediate(AUTHORITY, key, NOW, 7, None)
    with pytest.raises(x509.ExtensionNotFound):
        unbound.extensions.get_extension_for_class(x509.NameConstraints)


def test_the_leaf() -> None:
    leaf, key, chain = session().leaf("api.forge.example")
    leaf.verify_directly_issued_by(chain[0])
    assert belongs(leaf, key)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["api.forge.example"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert NOW - 2 * DAY <= leaf.not_valid_before_utc <= NOW - DAY, "clocks inside lag"
    assert leaf.not_valid_after_utc <= chain[0].not_valid_after_utc, "it does not outlive who signed it"
    address = session().leaf("10.1.2.3")[0]
    names = address.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.IPv4Address("10.1.2.3")]
    assert not names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (None, "a.example"),
        (None, "10.1.2.3"),
        (["a.example"], "a.example"),
        (["*.a.example"], "x.y.a.example"),
        (["10.1.2.3"], "10.1.2.3"),
        (["a.example", "10.1.2.3"], "10.1.2.3"),
        (["a.example", "10.1.2.3"], "a.example"),
        (None, "x" * 63 + "." + "y" * 63 + ".example"),
        (None, "under_score.example"),
    ],
)
def test_programs_accept_what_the_hosts_permit(hosts: list[str] | None, name: str, tmp_path: Path) -> None:
    assert shake(session(hosts), name, name, tmp_path) is None


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (["a.example"], "b.example"),
        (["a.example"], "xa.example"),
        (["a.example"], "10.1.2.3"),
        (["10.1.2.3"], "10.1.2.4"),
        (["10.1.2.3"], "a.example"),
        ([], "a.example"),
        ([], "10.1.2.3"),
    ],
)
def test_a_leaked_intermediate_is_worth_its_hosts_only(hosts: list[str], name: str, tmp_path: Path) -> None:
    said = shake(session(hosts), name, name, tmp_path)
    assert said is not None
    assert "subtree violation" in said


def test_programs_refuse_another_name_and_another_authority(tmp_path: Path) -> None:
    assert "mismatch" in (shake(session(), "a.example", "b.example", tmp_path) or "")
    key = new_key()
    other = Issuer(make_authority(key, NOW, 1), key)
    assert shake(session(), "a.example", "a.example", tmp_path, other) is not None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        "A.example",
        "a.example.",
        "*.a.example",
        "a b",
        "a\0b",
        "é.example",
        "x" * 64,
        "a/b",
        "::1",
        "a" * 254,
    ],
)
def test_what_is_not_a_name_gets_no_certificate(name: str) -> None:
    with pytest.raises(UnusableNameError):
        session().leaf(name)


def test_a_leaf_is_made_once() -> None:
    issuer = session()
    assert issuer.leaf("a.example") is not issuer.leaf("b.example")
    assert issuer.leaf("a.example")[0] is issuer.leaf("a.example")[0]


def test_a_long_session_gets_a_new_intermediate() -> None:
    times = [NOW]
    issuer = session(clock=lambda: times[0])
    first, _, chain = issuer.leaf("a.example")
    times[0] = NOW + 5 * DAY
    assert issuer.leaf("a.example")[0] is first
    times[0] = NOW + 6 * DAY + datetime.timedelta(seconds=1)
    again, _, new_chain = issuer.leaf("a.example")
    assert new_chain[0].not_valid_after_utc > chain[0].not_valid_after_utc
    assert again.not_valid_after_utc > times[0] + 6 * DAY
    again.verify_directly_issued_by(new_chain[0])


def test_a_key_that_is_another_ones_is_refused_and_none_is_shown() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        Issuer(AUTHORITY.certificate, new_key())
    assert "PrivateKey" not in repr(AUTHORITY)


def test_many_hosts_are_not_constrained_and_names_below_a_name_are_one() -> None:
    assert constraints(f"h{n}.example" for n in range(CONSTRAINTS + 1)) is None
    found = constraints([*(f"h{n}.example" for n in range(CONSTRAINTS + 1)), "example"])
    assert found is not None
    assert found.permitted_subtrees is not None
    assert [name.value for name in found.permitted_subtrees] == ["example"]


LABEL = st.text("abc1-", min_size=1, max_size=5).filter(
    lambda label: not label.startswith("-") and not label.endswith("-")
)
NAME = st.lists(LABEL, min_size=1, max_size=3).map(".".join).map(lambda name: name + ".example")


@settings(max_examples=40)
@given(st.lists(NAME, min_size=1, max_size=6), NAME)
def test_another_verifier_agrees(hosts: list[str], other: str) -> None:
    key = new_key()
    signer = Issuer(make_intermediate(AUTHORITY, key, NOW, 9, hosts), key)
    verifier = PolicyBuilder().store(Store([AUTHORITY.certificate])).time(NOW)
    for name in {*hosts, other}:
        leaf = make_leaf(signer, key, name, NOW, 10)
        permitted = any(name == host or name.endswith("." + host) for host in hosts)
        check = verifier.build_server_verifier(x509.DNSName(name))
        if permitted:
            check.verify(leaf, [signer.certificate])
        else:
            with pytest.raises(VerificationError):
                check.verify(leaf, [signer.certificate])
