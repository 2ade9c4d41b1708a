"""The bundle and the Java trust store; Java is asked itself when it is here."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from capsule.egress.certificates import Issuer, SessionIssuer, make_authority
from capsule.egress.trust import PASSWORD, blocks, bundle, java_truststore, unsound

NOW = datetime.datetime.now(datetime.UTC)
PEM = serialization.Encoding.PEM


def authority() -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Issuer(make_authority(key, NOW, 5), key)


OURS, FIRST, SECOND = authority(), authority(), authority()
HOST = (
    b"# Some authority\n"
    + FIRST.certificate.public_bytes(PEM)
    + b"\n\n"
    + SECOND.certificate.public_bytes(PEM)
)
BROKEN = b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"


def test_the_bundle_holds_the_hosts_and_ours() -> None:
    text = bundle(HOST, OURS.certificate)
    assert list(blocks(text)) == [issuer.certificate.public_bytes(PEM) for issuer in (FIRST, SECOND, OURS)]


def test_a_key_in_the_hosts_bundle_does_not_travel() -> None:
    key = FIRST.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    text = bundle(HOST + key, OURS.certificate)
    assert b"PRIVATE" not in text
    assert text == bundle(HOST, OURS.certificate)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_bundles_that_end_without_a_line_end_are_joined_right(end: bytes) -> None:
    text = bundle(HOST.rstrip() + end, OURS.certificate)
    assert len(ssl.create_default_context(cadata=text.decode()).get_ca_certs()) == 3
    assert bundle(HOST.replace(b"\n", b"\r\n"), OURS.certificate) == bundle(HOST, OURS.certificate)


def test_the_store_holds_each_once_under_a_name_of_its_own() -> None:
    data, problems = java_truststore(HOST + HOST, OURS.certificate)
    assert problems == []
    loaded = pkcs12.load_pkcs12(data, PASSWORD.encode())
    assert loaded.key is None
    assert {entry.friendly_name for entry in loaded.additional_certs} == {
        b"capsule",
        b"host-001",
        b"host-002",
    }


def test_what_cannot_be_read_is_named() -> None:
    data, problems = java_truststore(HOST + BROKEN, OURS.certificate)
    assert len(pkcs12.load_pkcs12(data, PASSWORD.encode()).additional_certs) == 3
    assert len(problems) == 1
    assert problems[0].startswith("certificate 3 of the host's bundle")
    assert BROKEN in bundle(HOST + BROKEN, OURS.certificate), "the bundle is as the host has it"


def _certificate(*extensions: x509.ExtensionType, edits: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """One that another signed and that may sign, with bytes of its DER replaced."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.oid.NameOID.COMMON_NAME
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(name, "between")]))
        .issuer_name(x509.Name([x509.NameAttribute(name, "root")]))
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )
    for extension in (x509.BasicConstraints(ca=True, path_length=None), *extensions):
        builder = builder.add_extension(extension, critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    for old, new in edits:
        assert old in der
        der = der.replace(old, new)
    return ssl.DER_cert_to_PEM_cert(der).encode()


def _unknown(last: int, value: bytes = b"\x05\x00", above: str = "1.2.3") -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{above}.{last}"), value)


def test_odd_certificates_of_authorities() -> None:
    """OpenSSL reads more kinds of names than the library; a version that there is none of, nobody should."""
    assert unsound(_certificate()) is None, "the control"
    x400 = _unknown(17, bytes.fromhex("3006a30430020500"), above="2.5.29")
    assert unsound(_certificate(x400)) is None
    twice = _certificate(_unknown(4), _unknown(5), edits=((b"\x2a\x03\x05", b"\x2a\x03\x04"),))
    version = _certificate(edits=((b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),))
    for odd in (twice, version):
        assert "number 2 that cannot be read" in (unsound(_certificate() + odd) or "")
    assert len(java_truststore(HOST + version, OURS.certificate)[1]) == 1


@pytest.mark.needs("java")
def test_java_lists_every_entry_as_trusted(tmp_path: Path) -> None:
    store = tmp_path / "truststore.p12"
    store.write_bytes(java_truststore(HOST, OURS.certificate)[0])
    done = subprocess.run(
        ["keytool", "-J-Duser.language=en", "-list", "-keystore", str(store), "-storepass", PASSWORD],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("trustedCertEntry") == 3


CLIENT = """
import java.net.URI;
import javax.net.ssl.HttpsURLConnection;
public class Client {
    public static void main(String[] arguments) throws Exception {
        for (String url : arguments) {
            var connection = (HttpsURLConnection) URI.create(url).toURL().openConnection();
            try {
                System.out.println(new String(connection.getInputStream().readAllBytes()));
            } catch (javax.net.ssl.SSLException error) {
                System.out.println("refused " + error.getMessage());
            }
        }
    }
}
"""


def _serve(context: ssl.SSLContext, server: socket.socket, count: int) -> None:
    for _ in range(count):
        try:
            connection, _ = server.accept()
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(4096)
                tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\ncontent")
        except OSError:
            continue


@pytest.mark.needs("java", "javac")
def test_a_java_program_accepts_our_leaf_by_the_store_alone(tmp_path: Path) -> None:
    import itertools

    for name, data in {
        "ours.p12": java_truststore(HOST, OURS.certificate)[0],
        "other.p12": java_truststore(HOST, SECOND.certificate)[0],
    }.items():
        (tmp_path / name).write_bytes(data)
    session = SessionIssuer(
        OURS, hosts=["localhost"], clock=lambda: NOW, serial=itertools.count(1).__next__,
        new_key=lambda: ec.generate_private_key(ec.SECP256R1()),
    )  # fmt: skip
    leaf, key, chain = session.leaf("localhost")
    (tmp_path / "chain.pem").write_bytes(b"".join(c.public_bytes(PEM) for c in [leaf, *chain]))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    (tmp_path / "Client.java").write_text(CLIENT)
    subprocess.run(["javac", "-d", tmp_path, tmp_path / "Client.java"], check=True, timeout=120)
    said = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        thread = threading.Thread(target=_serve, args=(context, server, 2), daemon=True)
        thread.start()
        for store in ("ours.p12", "other.p12"):
            done = subprocess.run(
                [
                    "java", "-Xshare:auto", f"-Djavax.net.ssl.trustStore={tmp_path / store}",
                    f"-Djavax.net.ssl.trustStorePassword={PASSWORD}", "-cp", tmp_path, "Client",
                    f"https://localhost:{server.getsockname()[1]}/",
                ],
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            said.append(done.stdout.strip())
        thread.join(30)
    assert said[0] == "content"
    assert said[1].startswith("refused")
    assert "PKIX" in said[1]
