"""The certificates that inspected connections show to programs: authority → session's intermediate → one leaf a name.

Pure: keys, the time and serial numbers are arguments (RFC 5280; P-256 and SHA-256 throughout). Everything is valid from
two days back, because clocks inside may lag. An intermediate lives seven days, may sign servers only, and where the
policy's hosts are known beforehand nothing but those: what leaks with a session's memory is worth that session's hosts.
Refuses a name that is neither a host name nor an address, and leaves that would outlive who signed them.

    authority = Issuer(make_authority(key, now, serial()), key)
    session = SessionIssuer(authority, hosts=["*.forge.example"], clock=clock, new_key=new_key, serial=serial)
    certificate, key, [intermediate] = session.leaf("api.forge.example")
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = datetime.timedelta(days=1)
BACK = 2 * _DAY
AUTHORITY_LIFE = 3652 * _DAY
INTERMEDIATE_LIFE = 7 * _DAY
LEAF_LIFE = 90 * _DAY
RENEW = _DAY
"""An intermediate with less than this left signs no more."""
CONSTRAINTS = 64
"""More names than this would weigh on every handshake: then the intermediate is not constrained."""
LEAVES = 4096
_NOTHING = "capsule.invalid"  # a permitted name that no host has (RFC 6761 §6.4)
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


class UnusableNameError(ValueError):
    """No certificate can be made for this name."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: a certificate and the key that belongs to it."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if not belongs(self.certificate, self.key):
            raise ValueError("this key does not belong to this certificate")


def belongs(certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> bool:
    """Whether the certificate is about this key."""
    public = certificate.public_key()
    return (
        isinstance(public, EllipticCurvePublicKey)
        and public.public_numbers() == key.public_key().public_numbers()
    )


def make_authority(key: EllipticCurvePrivateKey, now: datetime.datetime, serial: int) -> x509.Certificate:
    """The authority of one installation: ten years, one level of intermediates below it.

    Args:
        key: P-256; also in the subject's name, so that two installations are told apart.
        now: aware.
        serial: positive, at most 159 bits.
    """
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    subject = _name(f"Capsule authority {identifier.digest.hex()[:12]}")
    builder = _authority(subject, key, now - BACK, now + AUTHORITY_LIFE, serial, below=1).issuer_name(subject)
    return builder.sign(key, hashes.SHA256())


def make_intermediate(
    authority: Issuer,
    key: EllipticCurvePrivateKey,
    now: datetime.datetime,
    serial: int,
    hosts: Iterable[str] | None,
) -> x509.Certificate:
    """A session's own signer: seven days, servers only.

    Args:
        authority: who signs it.
        key: the session's, P-256.
        now: aware.
        serial: positive, at most 159 bits.
        hosts: names, `*.suffix` and IPv4 addresses that may be signed for; None when others may be asked for too.
    """
    start = max(now - BACK, authority.certificate.not_valid_before_utc)
    end = min(now + INTERMEDIATE_LIFE, authority.certificate.not_valid_after_utc)
    builder = _authority(_name("Capsule session"), key, start, end, serial, below=0)
    builder = builder.issuer_name(authority.certificate.subject).add_extension(
        _issued_by(authority), critical=False
    )
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    limits = constraints(hosts) if hosts is not None else None
    if limits is not None:
        builder = builder.add_extension(limits, critical=True)
    return builder.sign(authority.key, hashes.SHA256())


def constraints(hosts: Iterable[str]) -> x509.NameConstraints | None:
    """What an intermediate for these hosts may sign; None when there are too many to say.

    A name permits the names below it too: the extension has no narrower form (RFC 5280 §4.2.1.10).
    """
    names: set[str] = set()
    addresses: set[ipaddress.IPv4Network] = set()
    for host in hosts:
        try:
            addresses.add(ipaddress.IPv4Network(host))
        except ValueError:
            names.add(host.removeprefix("*."))
    shortest = {name for name in names if not any(name.endswith("." + other) for other in names)}
    if len(shortest) + len(addresses) > CONSTRAINTS:
        return None
    everything: list[x509.GeneralName] = [x509.IPAddress(ipaddress.IPv6Network("::/0"))]
    if not addresses:
        everything.append(x509.IPAddress(ipaddress.IPv4Network("0.0.0.0/0")))
    permitted: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(shortest) or [_NOTHING]]
    permitted += [x509.IPAddress(address) for address in sorted(addresses)]
    return x509.NameConstraints(permitted, everything)


def make_leaf(
    issuer: Issuer, key: EllipticCurvePrivateKey, name: str, now: datetime.datetime, serial: int
) -> x509.Certificate:
    """What a program is shown for one name or IPv4 address.

    Raises:
        UnusableNameError: not a name that can stand in a certificate.
    """
    general = _general_name(name)
    start = max(now - BACK, issuer.certificate.not_valid_before_utc)
    end = min(now + LEAF_LIFE, issuer.certificate.not_valid_after_utc)
    # The field holds 64 characters; programs read the alternative name. An address stands there only, because
    # OpenSSL would hold a common name of digits and dots against the constraints for names.
    subject = name if isinstance(general, x509.DNSName) and len(name) <= 64 else "Capsule leaf"
    builder = _about(_name(subject), key, start, end, serial).issuer_name(issuer.certificate.subject)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs=True, issues=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([general]), False),
        (_issued_by(issuer), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer.key, hashes.SHA256())


class SessionIssuer:
    """One session's intermediate and its leaves; a new intermediate when the old one ends.

    Args:
        authority: the installation's.
        hosts: as in `make_intermediate`.
        clock: the time, aware.
        new_key: a fresh P-256 key.
        serial: a fresh serial number.
    """

    def __init__(
        self,
        authority: Issuer,
        *,
        hosts: Iterable[str] | None,
        clock: Callable[[], datetime.datetime],
        new_key: Callable[[], EllipticCurvePrivateKey],
        serial: Callable[[], int],
    ) -> None:
        self._authority = authority
        self._hosts = None if hosts is None else tuple(hosts)
        self._clock, self._new_key, self._serial = clock, new_key, serial
        self._leaves: dict[str, x509.Certificate] = {}
        self._leaf_key = new_key()
        self._intermediate = self._issue(clock())

    def leaf(self, name: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey, Sequence[x509.Certificate]]:
        """The leaf of a name, its key, and the certificates between it and the authority.

        Raises:
            UnusableNameError: not a name that can stand in a certificate.
        """
        now = self._clock()
        if now > self._intermediate.certificate.not_valid_after_utc - RENEW:
            self._leaves.clear()
            self._intermediate = self._issue(now)
        found = self._leaves.get(name)
        if found is None:
            found = make_leaf(self._intermediate, self._leaf_key, name, now, self._serial())
            if len(self._leaves) >= LEAVES:
                del self._leaves[next(iter(self._leaves))]
            self._leaves[name] = found
        return found, self._leaf_key, [self._intermediate.certificate]

    def _issue(self, now: datetime.datetime) -> Issuer:
        key = self._new_key()
        return Issuer(make_intermediate(self._authority, key, now, self._serial(), self._hosts), key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.IPv4Address(name))
    except ValueError:
        pass
    labels = name.split(".")
    if len(name) > 253 or not all(0 < len(label) <= 63 and _LABEL.issuperset(label) for label in labels):
        raise UnusableNameError(
            f"{name[:80]!r} is not a host name in lower case; no certificate is made for it"
        )
    return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _issued_by(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _authority(
    subject: x509.Name,
    key: EllipticCurvePrivateKey,
    start: datetime.datetime,
    end: datetime.datetime,
    serial: int,
    *,
    below: int,
) -> x509.CertificateBuilder:
    return (
        _about(subject, key, start, end, serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(_usage(signs=False, issues=True), critical=True)
    )


def _about(
    subject: x509.Name,
    key: EllipticCurvePrivateKey,
    start: datetime.datetime,
    end: datetime.datetime,
    serial: int,
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs: bool, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs, key_cert_sign=issues, crl_sign=issues, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
