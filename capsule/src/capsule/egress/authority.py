"""The files of this installation's authority: the key, and what programs inside are given to trust.

`python -m capsule.egress.authority` makes what is absent or out of date below `$XDG_STATE_HOME/capsule/egress` and
prints its directory; starts that race agree, because each works under a lock and every file appears whole. With a
digest it makes the same for a policy's own authorities, `[{path, text}]` on standard input, in a directory of that
name. Refuses a directory or key that is not this user's alone, a key that does not belong to the certificate beside it,
and an authority that is no certificate.

    files = ensure(directory())
    files.key, files.certificate, files.bundle, files.truststore
    beside(files, digest, [("/etc/corp-ca.pem", pem)])
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import re
import secrets
import shutil
import ssl
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from capsule.egress.certificates import belongs, make_authority
from capsule.egress.trust import SOUND, blocks, bundle, java_truststore, unsound
from capsule.errors import CapsuleError, Fault
from capsule.places import make_private, state_directory

_RENEW = datetime.timedelta(days=30)
_LARGEST = 16 << 20
_KEPT = 30 * 86400.0
"""Seconds that files for a policy's own authorities are kept."""
HOST_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class AuthorityError(CapsuleError):
    """The authority's files cannot be used or made; egress does not start."""

    fault = Fault.HOST


@dataclass(frozen=True, slots=True)
class Files:
    """Where everything is.

    Attributes:
        key: 0600, PKCS #8 PEM; never goes inside.
        certificate: `public/ca.pem`.
        bundle: `public/bundle.pem`.
        truststore: `public/truststore.p12`.
        problems: what the Java trust store could not take, one sentence each; empty when it was current.
    """

    key: Path
    certificate: Path
    bundle: Path
    truststore: Path
    problems: tuple[str, ...] = ()


def directory() -> Path:
    """`egress` below this user's state."""
    return state_directory() / "egress"


def host_bundle() -> bytes:
    """The host's authorities as PEM: `SSL_CERT_FILE`, where OpenSSL looks, or where distributions keep them.

    Raises:
        AuthorityError: none is there; pass-through connections would then be trusted by nothing inside.
    """
    named = [os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().openssl_cafile]
    for place in [*named, *HOST_BUNDLES]:
        if place and Path(place).is_file():
            return Path(place).read_bytes()
    raise AuthorityError(
        f"no bundle of authorities on this host; looked at {', '.join(HOST_BUNDLES)}",
        next_step="install the package ca-certificates, or name a bundle in SSL_CERT_FILE",
    )


def ensure(place: Path, *, host_pem: bytes | None = None, now: datetime.datetime | None = None) -> Files:
    """Makes what is absent, expiring, or behind the host's bundle; leaves alone what is current.

    Args:
        place: the directory; made 0700 with its parents when absent.
        host_pem: the host's bundle; looked for when None.
        now: aware; the clock's when None.

    Raises:
        AuthorityError: something there is not ours alone, or does not belong together.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    host_pem = host_bundle() if host_pem is None else host_pem
    _own_directory(place, make=0o700)
    with _locked(place / "authority.lock"):
        public = place / "public"
        _own_directory(public, make=0o755)
        files = Files(
            place / "authority.key", public / "ca.pem", public / "bundle.pem", public / "truststore.p12"
        )
        certificate = _authority(files, now)
        wanted = bundle(host_pem, certificate)
        if _read(files.bundle) == wanted and _read(files.truststore):
            return files
        with warnings.catch_warnings(
            action="ignore"
        ):  # bundles hold old certificates that break today's rules
            store, problems = java_truststore(host_pem, certificate)
        _write(files.truststore, store, 0o644)
        _write(files.bundle, wanted, 0o644)  # last: while it is behind, both are made again
        return Files(files.key, files.certificate, files.bundle, files.truststore, tuple(problems))


def beside(files: Files, digest: str, authorities: Sequence[tuple[str, str]]) -> Path:
    """What programs trust when a policy names authorities of its own: a directory with the files of `public`.

    Args:
        files: the usual ones.
        digest: names the directory; 64 hexadecimal digits over all that it is made of.
        authorities: path and text of each.

    Raises:
        AuthorityError: a text holds no certificate, one that cannot be read, or one that is no authority's.
    """
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        raise AuthorityError(f"{digest!r} is no digest", next_step="run capsule doctor")
    more = b"".join(_certificates(path, text) for path, text in authorities)
    usual, ours = files.bundle.read_bytes(), _read_certificate(files.certificate)
    assert ours is not None
    place = files.bundle.parent / "with"
    _own_directory(place, make=0o755)
    with warnings.catch_warnings(action="ignore"):
        store, _ = java_truststore(more + usual, ours)
    made = Path(tempfile.mkdtemp(prefix=".", dir=place))
    try:
        made.chmod(0o755)
        _write(made / "ca.pem", more + files.certificate.read_bytes(), 0o644)
        _write(made / "bundle.pem", more + usual, 0o644)
        _write(made / "truststore.p12", store, 0o644)
        with contextlib.suppress(OSError):  # another run made the same
            made.rename(place / digest)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if not (place / digest / "truststore.p12").is_file():
        raise AuthorityError(f"{place / digest} cannot be made", next_step=f"remove {place / digest}")
    _forget_old(place)
    return place / digest


def _certificates(path: str, text: str) -> bytes:
    problem = unsound(text.encode())
    if problem is not None:
        raise AuthorityError(f"{path} {problem}", next_step=SOUND)
    return b"".join(blocks(text.encode()))


def _forget_old(place: Path) -> None:
    """What no run made anew for long; one that still has it open keeps it."""
    for old in place.iterdir():
        if time.time() - old.lstat().st_mtime > _KEPT:
            shutil.rmtree(old, ignore_errors=True)


def _authority(files: Files, now: datetime.datetime) -> x509.Certificate:
    key, certificate = _read_key(files.key), _read_certificate(files.certificate)
    if key is not None and certificate is not None and not belongs(certificate, key):
        raise AuthorityError(
            f"{files.key} does not belong to {files.certificate}",
            next_step="remove both; new ones are made at the next start, and running sandboxes must be started again",
        )
    if certificate is not None and key is not None and now < certificate.not_valid_after_utc - _RENEW:
        return certificate
    if key is None or certificate is not None:  # a certificate that ends takes its key along
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # The certificate goes first: a key without one gets one at the next start, the other way round would not fit.
        files.certificate.unlink(missing_ok=True)
        _write(files.key, text, 0o600)
    certificate = make_authority(key, now, x509.random_serial_number())
    _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate


def _own_directory(path: Path, *, make: int) -> None:
    make_private(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=make)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o777 & ~make:
        raise AuthorityError(
            f"{path} must be a directory of uid {os.geteuid()} with mode {make:o}, "
            f"and is of uid {found.st_uid} with mode {stat.filemode(found.st_mode)}",
            next_step=f"find out who changed it, then remove it or set it right: chmod {make:o} {path}",
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path, *, allowed: int = 0o644) -> bytes | None:
    """The content of one of our own files, None when it is absent."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuthorityError(f"{path}: {error.strerror}", next_step="remove it; it is made again") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
        if not ours or found.st_mode & 0o777 & ~allowed or found.st_size > _LARGEST:
            raise AuthorityError(
                f"{path} must be one plain file of uid {os.geteuid()} with mode {allowed:o}, and is of uid "
                f"{found.st_uid} with mode {stat.filemode(found.st_mode)}, {found.st_nlink} names",
                next_step="find out who changed it; when in doubt remove it, and a new one is made",
            )
        return file.read(_LARGEST)


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    text = _read(path, allowed=0o600)
    if text is None:
        return None
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(
            f"{path} is not a private key", next_step="remove it; a new one is made"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthorityError(f"{path} is not a P-256 key", next_step="remove it; a new one is made")
    return key


def _read_certificate(path: Path) -> x509.Certificate | None:
    text = _read(path)
    if text is None:
        return None
    try:
        return x509.load_pem_x509_certificate(text)
    except ValueError as error:
        raise AuthorityError(
            f"{path} is not a certificate", next_step="remove it; a new one is made"
        ) from error


def _write(path: Path, content: bytes, mode: int) -> None:
    """The whole file or nothing of it: written aside, synced, renamed."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def main() -> int:
    """For the supervisor: the directory on standard output; what is wrong on standard error."""
    try:
        files = ensure(directory())
        if len(sys.argv) == 2:
            given = json.load(sys.stdin)
            beside(files, sys.argv[1], [(one["path"], one["text"]) for one in given])
    except AuthorityError as error:
        sys.stderr.write(f"capsule: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"capsule: {error}; look at the rights and the space of {directory()}\n")
        return AuthorityError.exit_code
    for problem in files.problems:
        sys.stderr.write(f"capsule: {problem}\n")
    sys.stdout.write(f"{files.key.parent}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
