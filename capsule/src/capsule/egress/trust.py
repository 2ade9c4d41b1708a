"""What programs inside trust: the host's authorities and ours, as a PEM bundle and as a Java trust store.

Pure. Only certificates are taken from the host's bundle: a key that lies in that file does not travel. The store is
PKCS #12 with each entry marked as trusted, which Java asks for (8u301 and later read this encryption). What the library
cannot read stays in the bundle, is left out of the store, and is named.

    text = bundle(host_pem, authority)
    store, problems = java_truststore(host_pem, authority)
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

PASSWORD = "changeit"  # noqa: S105 - Java's customary one; the file holds public certificates only
SOUND = "give the authority's certificate in PEM, whole (BEGIN CERTIFICATE)"
"""What helps where a file of authorities is `unsound`."""
_ROUNDS = 2048  # nothing in it is secret: what an integrity check costs at every start of a Java program
_BLOCK = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END (?:X509 )?CERTIFICATE-----"
)


def blocks(pem: bytes) -> Iterator[bytes]:
    """The certificates in a PEM file, as text, in order; everything else is passed over."""
    for found in _BLOCK.finditer(pem):
        yield found[0].replace(b"\r\n", b"\n") + b"\n"


def unsound(pem: bytes) -> str | None:
    """Why nobody can be trusted through these certificates, in a clause behind the file's name; None when one can.

    A certificate that somebody else signed and that may sign nothing is at neither end of a chain: beside one of an
    authority it does no harm, alone it is of no use. One that signed itself is trusted as the server's own, whatever it
    says of signing. One that cannot be read is refused wherever it stands: none of the file would be loaded.
    """
    found = list(blocks(pem))
    if not found:
        return "holds no certificate"
    useless = []
    for number, block in enumerate(found, 1):
        which = "" if len(found) == 1 else f" number {number}"
        try:
            certificate = x509.load_pem_x509_certificate(block)
            own = certificate.issuer == certificate.subject
            signs = _may_sign(certificate)
        except (ValueError, x509.InvalidVersion, x509.DuplicateExtension):  # in words of the encoding
            return (
                f"holds a certificate{which} that cannot be read: between BEGIN and END stands none of X.509"
            )
        if not own and not signs:
            name = certificate.subject.rfc4514_string()[:80]
            useless.append(
                f"holds a certificate{which} that is no authority's: {name!r} was signed by another, and may sign "
                "none itself (CA:FALSE)"
            )
    return useless[0] if len(useless) == len(found) else None


def _may_sign(certificate: x509.Certificate) -> bool:
    """Whether it may be an authority's; one that says nothing of it (version 1) may, or what is not read here."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.UnsupportedGeneralNameType):
        return True


def bundle(host_pem: bytes, authority: x509.Certificate) -> bytes:
    """The host's authorities and ours, one PEM text."""
    return b"".join(blocks(host_pem)) + authority.public_bytes(serialization.Encoding.PEM)


def java_truststore(host_pem: bytes, authority: x509.Certificate) -> tuple[bytes, list[str]]:
    """The same as PKCS #12 with `PASSWORD`; and what was left out, one sentence each."""
    entries = [pkcs12.PKCS12Certificate(authority, b"capsule")]
    known = {authority.fingerprint(hashes.SHA256())}
    problems = []
    for number, block in enumerate(blocks(host_pem), 1):
        try:
            certificate = x509.load_pem_x509_certificate(block)
        except (ValueError, x509.InvalidVersion) as error:
            problems.append(
                f"certificate {number} of the host's bundle is not in the Java trust store: {error}"
            )
            continue
        fingerprint = certificate.fingerprint(hashes.SHA256())
        if fingerprint not in known:
            known.add(fingerprint)
            entries.append(pkcs12.PKCS12Certificate(certificate, b"host-%03d" % number))
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(PASSWORD.encode())
    )
    return pkcs12.serialize_java_truststore(entries, encryption), problems
