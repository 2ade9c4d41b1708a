"""A small internet on loopback for unmodified programs: package registries, a git server, an API, a chat stream.

One HTTPS server, HTTP/1.1, for every name; the name asked for decides what answers. What it serves is made here.

    with World(folder) as world:
        world.port, world.authority, world.requests
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = ("api.example", "py.example", "js.example", "rs.example", "go.example", "git.example", "box.example")
DAY = timedelta(days=1)


class World:
    """The servers, their authority's certificate, and what was asked of them (`(name, method, path)`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str, str]] = []
        self.authority = folder / "authority.pem"
        self.received: dict[str, int] = {}
        key, certificate = _authority()
        self.authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        chain = folder / "server.pem"
        chain.write_bytes(_server(key, certificate))
        self.repository = folder / "git/project.git"
        _repository(self.repository, folder)
        self.files = _packages()
        handler = type("Handler", (_Handler,), {"world": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        context.set_alpn_protocols(["http/1.1"])
        # The handshake belongs to the connection's own thread: a slow client must not hold up the others.
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self.server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def asked(self, name: str) -> list[str]:
        """Paths asked of one name."""
        return [path for host, _, path in self.requests if host == name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: World

    def do_GET(self) -> None:
        self._route()

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 - the names http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Tests look at `World.requests`."""

    def _route(self) -> None:
        host = self.headers.get("host", "").partition(":")[0]
        self.world.requests.append((host, self.command, self.path))
        if self.headers.get("expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        routes: dict[str, Callable[[], None]] = {
            "api.example": self._api,
            "box.example": self._box,
            "git.example": self._git,
        }
        routes.get(host, self._file)()

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _file(self) -> None:
        host = self.headers.get("host", "").partition(":")[0]
        found = self.world.files.get((host, urlsplit(self.path).path))
        if found is None:
            self._answer(b'{"error": "no such file"}', status=404)
        else:
            self._answer(*found)

    def _api(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/events":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for number in range(3):
                event = f"data: {number}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        elif url.path == "/bytes":
            size = int(parse_qs(url.query)["n"][0])
            self.send_response(200)
            self.send_header("content-length", str(size))
            self.end_headers()
            block = bytes(65536)
            while size > 0:
                self.wfile.write(block[:size])
                size -= len(block)
        else:
            body = self._body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = {"method": self.command, "path": self.path, "size": len(body), "headers": headers}
            self._answer(json.dumps(told).encode())

    def _box(self) -> None:
        """Layers of an image, pushed: one large body each, as a registry takes them."""
        body = self._body()
        self.world.received[self.path] = len(body)
        self._answer(
            json.dumps({"digest": "sha256:" + hashlib.sha256(body).hexdigest()}).encode(), status=201
        )

    def _git(self) -> None:
        url = urlsplit(self.path)
        environment = os.environ | {
            "GIT_PROJECT_ROOT": str(self.world.repository.parent),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.world.folder),
            "REMOTE_USER": "u",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=self._body(), env=environment, capture_output=True, check=True
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split(" ")[0])
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Loopback World")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return key, made


def _server(issuer: ec.EllipticCurvePrivateKey, authority: x509.Certificate) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in NAMES])
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([])).issuer_name(authority.subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)
        .add_extension(names, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
        )
        .sign(issuer, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


def _repository(bare: Path, folder: Path) -> None:
    work = folder / "git/work"
    work.mkdir(parents=True)
    (work / "README").write_text("one\n")
    environment = os.environ | {
        "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "u", "GIT_AUTHOR_EMAIL": "u@git.example",
        "GIT_COMMITTER_NAME": "u", "GIT_COMMITTER_EMAIL": "u@git.example",
    }  # fmt: skip
    for words in (
        ["init", "-q", "-b", "main", "."],
        ["add", "README"],
        ["commit", "-qm", "one"],
        ["clone", "-q", "--bare", ".", str(bare)],
        ["--git-dir", str(bare), "config", "http.receivepack", "true"],
    ):
        subprocess.run(["git", *words], cwd=work, env=environment, check=True)


def _packages() -> dict[tuple[str, str], tuple[bytes, str]]:
    """One package for each ecosystem, and the index that its client asks for."""
    files: dict[tuple[str, str], tuple[bytes, str]] = {}
    wheel = _wheel()
    page = '<!DOCTYPE html><a href="/files/{0}#sha256={1}">{0}</a>'
    name = "smallthing-1.0-py3-none-any.whl"
    listing = page.format(name, hashlib.sha256(wheel).hexdigest()).encode()
    files["py.example", "/simple/smallthing/"] = (listing, "text/html")
    files["py.example", f"/files/{name}"] = (wheel, "application/octet-stream")

    package = _tar_gz({"package/package.json": b'{"name":"smallthing","version":"1.0.0","main":"i.js"}',
                       "package/i.js": b"module.exports = 7\n"})  # fmt: skip
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode()
    tarball = {"tarball": "https://js.example/smallthing/-/smallthing-1.0.0.tgz", "integrity": integrity}
    version = {"name": "smallthing", "version": "1.0.0", "main": "i.js", "dist": tarball}
    packument = {"name": "smallthing", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    files["js.example", "/smallthing"] = (json.dumps(packument).encode(), "application/json")
    files["js.example", "/smallthing/-/smallthing-1.0.0.tgz"] = (package, "application/octet-stream")

    manifest = b'[package]\nname = "smallthing"\nversion = "1.0.0"\nedition = "2021"\n'
    crate = _tar_gz({"smallthing-1.0.0/Cargo.toml": manifest,
                     "smallthing-1.0.0/src/lib.rs": b"pub fn seven() -> u8 { 7 }\n"})  # fmt: skip
    line: dict[str, Any] = {
        "name": "smallthing", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False,
        "cksum": hashlib.sha256(crate).hexdigest(),
    }  # fmt: skip
    files["rs.example", "/index/config.json"] = (b'{"dl": "https://rs.example/dl"}', "application/json")
    files["rs.example", "/index/sm/al/smallthing"] = (json.dumps(line).encode(), "text/plain")
    files["rs.example", "/dl/smallthing/1.0.0/download"] = (crate, "application/gzip")

    module = b"module box.example/small\n\ngo 1.19\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("box.example/small@v1.0.0/go.mod", module)
        packed.writestr(
            "box.example/small@v1.0.0/small.go", "package small\n\nfunc Seven() int { return 7 }\n"
        )
    base = "/box.example/small/@v"
    files["go.example", f"{base}/list"] = (b"v1.0.0\n", "text/plain")
    files["go.example", f"{base}/v1.0.0.info"] = (b'{"Version":"v1.0.0"}', "application/json")
    files["go.example", f"{base}/v1.0.0.mod"] = (module, "text/plain")
    files["go.example", f"{base}/v1.0.0.zip"] = (archive.getvalue(), "application/zip")
    return files


def _wheel() -> bytes:
    meta = "smallthing-1.0.dist-info"
    contents = {
        "smallthing.py": "SEVEN = 7\n",
        f"{meta}/METADATA": "Metadata-Version: 2.1\nName: smallthing\nVersion: 1.0\n",
        f"{meta}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*contents, f"{meta}/RECORD"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in [*contents.items(), (f"{meta}/RECORD", record)]:
            archive.writestr(name, text)
    return packed.getvalue()


def _tar_gz(contents: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
