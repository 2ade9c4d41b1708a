"""What stands outside for attacks over hosts: servers that keep all they are sent, and a policy that lists them.

A server reads as the most obliging one would (bare line feeds, folded fields, both lengths, requests behind an upgrade
that it agreed to), so that what a strict reader refuses is seen when it arrives. Everything listens on loopback.
Refused: to judge; that is `reaching`'s.

    servers = stand(stage)                  # and stage's policy lists them as hosts
    servers["friend"].requests
"""

from __future__ import annotations

import contextlib
import datetime
import json
import secrets
import socket
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path

from capsule.attack import host
from capsule.attack.stage import Stage

PLACEHOLDER = b"capsule-secret-"
MOST = 1 << 20


@dataclass(frozen=True)
class Request:
    """One request as an obliging server reads it."""

    method: str
    target: str
    head: bytes
    body: bytes
    headers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Its `Host` fields, joined."""
        return ",".join(self.headers.get("host", []))

    @property
    def routed(self) -> str:
        """The host that a front end would take it for which looks beside `Host`."""
        said = {name.replace("_", "-"): ",".join(values) for name, values in self.headers.items()}
        forwarded = said.get("forwarded", "").partition("host=")[2].partition(";")[0].strip('"')
        whole = said.get("x-original-url", "").partition("//")[2].partition("/")[0]
        names = (said.get(name) for name in ("x-forwarded-host", "x-host", "x-original-host"))
        return next(filter(None, (forwarded, whole, *names)), self.host)

    @property
    def meant(self) -> str:
        """The method that a framework would take it for which looks beside the request line."""
        said = {name.replace("_", "-"): ",".join(values) for name, values in self.headers.items()}
        return said.get("x-http-method-override", said.get("x-method-override", self.method)).upper()


def read_requests(data: bytes) -> tuple[list[Request], int]:
    """Whole requests at the start of what came, and how many bytes they are."""
    found: list[Request] = []
    at = 0
    while True:
        ends = [(place, len(mark)) for mark in (b"\r\n\r\n", b"\n\n") if (place := data.find(mark, at)) >= 0]
        if not ends:
            return found, at
        place, size = min(ends)
        head = data[at : place + size]
        lines = head.replace(b"\r\n", b"\n").decode("latin-1").split("\n")
        method, _, rest = lines[0].partition(" ")
        headers: dict[str, list[str]] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers.setdefault(name.strip().lower(), []).append(value.strip())
        start = place + size
        taken = _body(data[start:], headers)
        if taken is None:
            return found, at
        body = data[start : start + taken]
        found.append(Request(method, rest.rpartition(" ")[0], head, body, headers))
        at = start + taken


def _body(data: bytes, headers: dict[str, list[str]]) -> int | None:
    """Bytes of the body; None while it is not whole."""
    if any("chunked" in value for value in headers.get("transfer-encoding", [])):
        end = 0
        while True:
            line, mark, _ = data[end:].partition(b"\n")
            if not mark:
                return None
            try:
                size = int(line.strip().split(b";")[0], 16)
            except ValueError:
                return end
            end += len(line) + 1 + size + 2
            if end > len(data):
                return None
            if size == 0:
                return end
    try:
        length = int(headers.get("content-length", ["0"])[0])
    except ValueError:
        length = 0
    return length if length <= len(data) else None


class Server:
    """One name's server on loopback."""

    def __init__(self, name: str, context: ssl.SSLContext | None, location: str) -> None:
        self.name, self._context, self._location = name, context, location
        self.requests: list[Request] = []
        self.raw: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        self._socket.settimeout(0.1)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                peer, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(peer):
            peer.settimeout(5)
            stream = self._context.wrap_socket(peer, server_side=True) if self._context else peer
            with contextlib.closing(stream):
                data = b""
                while len(data) < MOST and (part := stream.recv(65536)):
                    self.raw.append(part)
                    data += part
                    found, used = read_requests(data)
                    data = data[used:]
                    for request in found:
                        self.requests.append(request)
                        stream.sendall(self._answer(request))

    def _answer(self, request: Request) -> bytes:
        if request.target == "/open/redirect":
            return f"HTTP/1.1 302 Found\r\nlocation: {self._location}\r\ncontent-length: 0\r\n\r\n".encode()
        if "websocket" in request.headers.get("upgrade", []):
            return b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(1)
        self._socket.close()


def _contexts(names: list[str], folder: Path) -> tuple[Path, dict[str, ssl.SSLContext]]:
    """An authority's certificate and a server's context for each name, made anew."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from capsule.egress.certificates import Issuer, make_authority, make_leaf

    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    authority = Issuer(make_authority(key, now, secrets.randbits(128)), key)
    pem = folder / "outside-authority.pem"
    pem.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    contexts = {}
    for name in names:
        leaf = ec.generate_private_key(ec.SECP256R1())
        certificate = make_leaf(authority, leaf, name, now, secrets.randbits(128))
        chain = folder / f"{name}.pem"
        chain.write_bytes(
            leaf.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].load_cert_chain(chain)
        contexts[name].set_alpn_protocols(["http/1.1"])
        chain.unlink()
    return pem, contexts


def stand(stage: Stage, *more: str) -> dict[str, Server]:
    """Start the servers and the listeners nobody may reach, and write the stage's policy.

    Args:
        stage: built, and not yet remembered.
        more: further host entries, as YAML's flow mappings; `{foe}` is the port of the listener.

    Returns:
        `friend` (TLS; `/open/**` of it is allowed), `other` (TLS, allowed too) and `plain` (HTTP, allowed).
    """
    foe = host.Listener(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0))
    far = host.Listener(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0))
    udp = host.Listener(socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 0))
    listeners = [foe, far, udp]
    port = foe.address[1]
    pem, contexts = _contexts(["friend.example", "other.example"], stage.outside)
    location = f"http://127.0.0.1:{port}/"
    servers = {
        "friend": Server("friend.example", contexts["friend.example"], location),
        "other": Server("other.example", contexts["other.example"], location),
        "plain": Server("plain.example", None, location),
    }
    for closing in (*(one.close for one in listeners), *(one.close for one in servers.values())):
        stage.resources.callback(closing)
    stage.notes["listeners"], stage.notes["servers"] = listeners, servers
    stage.extra |= {who: server.port for who, server in servers.items()}
    stage.extra |= {"foe": port, "far": far.address[1], "udp": udp.address[1]}
    stage.extra["lan"] = host.lan_address()
    hosts = [
        f"{{host: friend.example, ports: [443, {port}], methods: [GET, POST], paths: [/open/**], inspect: always}}",
        "{host: other.example, ports: [443], inspect: always}",
        "{host: plain.example, ports: [80, 443], inspect: always}",
        "{host: '*.wild.example', inspect: always}",
        *(entry.format(foe=port) for entry in more),
    ]
    ways = [f'{{host: {one.name}, address: "127.0.0.1:{one.port}"}}' for one in servers.values()]
    text = stage.policy({}).decode() + "network:\n  hosts:\n" + "".join(f"  - {entry}\n" for entry in hosts)
    text += f"  upstreams: [{', '.join(ways)}]\n  authorities: [{json.dumps(str(pem))}]\n"
    text += (
        "secrets:\n  - {name: attack, from: {env: ATTACK_SECRET}, to: [friend.example], as: header, "
        "field: Authorization, env: ATTACK_PLACEHOLDER}\n"
    )
    (stage.ws / "capsule.yaml").write_text(text)
    return servers
