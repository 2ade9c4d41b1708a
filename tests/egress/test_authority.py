"""The authority's files: made once, agreed on by racing starts, refused when not ours alone."""

from __future__ import annotations

import datetime
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from capsule.egress.authority import AuthorityError, Files, beside, directory, ensure, host_bundle
from capsule.egress.certificates import make_authority
from capsule.egress.trust import blocks

NOW = datetime.datetime.now(datetime.UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
HOST = make_authority(KEY, NOW, 3).public_bytes(serialization.Encoding.PEM)


def made(place: Path, host_pem: bytes = HOST, now: datetime.datetime = NOW) -> Files:
    return ensure(place, host_pem=host_pem, now=now)


def contents(files: Files) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in (files.key, files.certificate, files.bundle, files.truststore)
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state/capsule/egress"


def test_everything_is_made_with_its_mode(place: Path) -> None:
    old = os.umask(0)
    try:
        files = made(place)
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (place, files.key, files.certificate)}
    assert modes == {"egress": 0o700, "authority.key": 0o600, "ca.pem": 0o644}
    assert list(blocks(files.bundle.read_bytes())) == [HOST, files.certificate.read_bytes()]
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in (place / "public").iterdir())
    assert not list(place.rglob(".*")), "nothing half-written is left"


def test_a_second_start_changes_nothing(place: Path) -> None:
    before = contents(made(place))
    assert contents(made(place, now=NOW + datetime.timedelta(days=1000))) == before


def test_a_new_host_bundle_keeps_the_authority(place: Path) -> None:
    before = contents(made(place))
    after = contents(
        made(place, host_pem=HOST + make_authority(KEY, NOW, 4).public_bytes(serialization.Encoding.PEM))
    )
    assert {name for name in before if before[name] != after[name]} == {"bundle.pem", "truststore.p12"}


@pytest.mark.parametrize(
    "lost", ["authority.key", "public/ca.pem", "public/bundle.pem", "public/truststore.p12"]
)
def test_what_is_lost_is_made_again_and_fits(place: Path, lost: str) -> None:
    before = contents(made(place))
    (place / lost).unlink()
    after = contents(made(place))
    assert (after["authority.key"] == before["authority.key"]) is (lost != "authority.key")
    certificate = x509.load_pem_x509_certificate(after["ca.pem"])
    key = serialization.load_pem_private_key(after["authority.key"], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert certificate.public_key() == key.public_key()
    assert after["bundle.pem"].endswith(after["ca.pem"])
    assert contents(made(place)) == after


def test_an_authority_that_ends_is_replaced_with_its_key(place: Path) -> None:
    before = contents(made(place))
    late = x509.load_pem_x509_certificate(before["ca.pem"]).not_valid_after_utc - datetime.timedelta(days=29)
    after = contents(made(place, now=late))
    assert all(before[name] != after[name] for name in before)
    assert x509.load_pem_x509_certificate(after["ca.pem"]).not_valid_after_utc > late + datetime.timedelta(
        days=3000
    )


def test_racing_starts_agree(place: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from capsule.egress.authority import ensure;"
        "files = ensure(Path(sys.argv[1]), host_pem=sys.stdin.buffer.read());"
        "sys.stdout.buffer.write(files.key.read_bytes() + files.bundle.read_bytes() + files.truststore.read_bytes())"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", code, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(HOST)
        racer.stdin.close()
        racer.stdin = None
    outputs = [racer.communicate(timeout=60)[0] for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert len(set(outputs)) == 1


def other_key(place: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    _replace_key(place, key)


def _replace_key(place: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    (place / "authority.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def open_key(place: Path) -> None:
    (place / "authority.key").chmod(0o640)


def link_key(place: Path) -> None:
    (place / "authority.key").rename(place / "elsewhere")
    (place / "authority.key").symlink_to("elsewhere")


def second_name(place: Path) -> None:
    os.link(place / "authority.key", place / "second")


def noise(place: Path) -> None:
    (place / "authority.key").write_bytes(b"noise")


def other_kind(place: Path) -> None:
    _replace_key(place, ed25519.Ed25519PrivateKey.generate())


def pipe(place: Path) -> None:
    (place / "authority.key").unlink()
    os.mkfifo(place / "authority.key", 0o600)


def open_directory(place: Path) -> None:
    place.chmod(0o770)


def open_public(place: Path) -> None:
    (place / "public").chmod(0o777)


def broken_certificate(place: Path) -> None:
    (place / "public/ca.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n")


@pytest.mark.parametrize(
    "damage",
    [
        other_key, open_key, link_key, second_name, noise, other_kind, pipe, open_directory, open_public,
        broken_certificate,
    ],
)  # fmt: skip
def test_what_is_not_ours_alone_or_does_not_fit_is_refused(place: Path, damage: object) -> None:
    before = contents(made(place))
    assert callable(damage)
    damage(place)
    with pytest.raises(AuthorityError, match="; ") as raised:
        made(place)
    assert raised.value.next_step
    assert b"PRIVATE" not in str(raised.value).encode()
    assert (place / "public/truststore.p12").read_bytes() == before["truststore.p12"], "nothing was touched"


@pytest.mark.needs("root")
def test_another_users_directory_is_refused(place: Path) -> None:
    made(place)
    os.chown(place, 65534, 65534)
    with pytest.raises(AuthorityError, match="uid 65534"):
        made(place)


def test_a_symbolic_link_for_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(AuthorityError, match="must be a directory"):
        made(tmp_path / "link")


def test_the_program_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "host.pem"
    bundle.write_bytes(HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    done = subprocess.run(
        [sys.executable, "-m", "capsule.egress.authority"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == directory()
    assert host_bundle() == HOST
    assert contents(made(directory()))["bundle.pem"].startswith(HOST)
    (directory() / "authority.key").write_bytes(b"noise")
    done = subprocess.run(
        [sys.executable, "-m", "capsule.egress.authority"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 125
    assert "is not a private key; remove it" in done.stderr


def test_a_relative_state_home_is_ignored(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert directory() == home / ".local/state/capsule/egress"


OTHER = make_authority(KEY, NOW, 4).public_bytes(serialization.Encoding.PEM).decode()


def test_a_policys_own_authorities_lie_beside_and_leave_the_usual_files_alone(place: Path) -> None:
    files = made(place)
    before = contents(files)
    found = beside(files, "0" * 64, [("/corp.pem", OTHER)])
    assert contents(files) == before
    assert OTHER not in files.bundle.read_text()
    for name, usual in (("bundle.pem", files.bundle), ("ca.pem", files.certificate)):
        assert (found / name).read_text() == OTHER + usual.read_text()
    assert (found / "truststore.p12").read_bytes() != files.truststore.read_bytes()
    assert stat.S_IMODE(found.stat().st_mode) == 0o755
    assert beside(files, "0" * 64, [("/corp.pem", OTHER)]) == found, "as often as anybody likes"
    assert [path.name for path in found.parent.iterdir()] == ["0" * 64], "nothing is left over"


def test_a_key_beside_a_policys_authority_does_not_travel(place: Path) -> None:
    key = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    found = beside(made(place), "1" * 64, [("/corp.pem", key + OTHER)])
    assert "PRIVATE" not in (found / "ca.pem").read_text() + (found / "bundle.pem").read_text()


@pytest.mark.parametrize(
    "text", ["", "nothing", OTHER.replace("M", "A", 40)], ids=["empty", "none", "broken"]
)
def test_what_is_no_certificate_is_refused_by_name(place: Path, text: str) -> None:
    files = made(place)
    with pytest.raises(AuthorityError, match=r"/corp\.pem holds (no certificate;|.* stands none of X\.509;)"):
        beside(files, "2" * 64, [("/corp.pem", text)])
    assert not (files.bundle.parent / "with" / ("2" * 64)).exists()


def test_a_name_that_is_no_digest_is_refused(place: Path) -> None:
    with pytest.raises(AuthorityError, match="no digest"):
        beside(made(place), "../../x", [("/corp.pem", OTHER)])


def test_files_that_are_old_are_forgotten(place: Path) -> None:
    files = made(place)
    old = beside(files, "3" * 64, [("/corp.pem", OTHER)])
    os.utime(old, (0, 0))
    new = beside(files, "4" * 64, [("/corp.pem", OTHER)])
    assert not old.exists()
    assert new.exists()
