"""A model's server and a package index on loopback, under names of their own, for the demonstration's agent.

They remember what reached them, and the story judges by that. Their authority is made for the day and thrown away.

Refuses model calls under a wrong key, as the real one does.

    with Internet(folder, key="sk-…") as internet:
        internet.port, internet.authority, internet.heard
        internet.reply = other_model        # what it says from here on, by the request's content
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MODELS, PACKAGES, STRANGER = "api.anthropic.com", "packages.example", "evil.example"
# What a model says, in the events of a stream: a sentence, a tool that it wants to be called, what it cost.
_START: dict[str, Any] = {
    "id": "msg_demo", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [],
    "usage": {"input_tokens": 1812, "output_tokens": 1},
}  # fmt: skip
_STREAM: tuple[dict[str, Any], ...] = (
    {"type": "message_start", "message": _START},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It is mended. "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Publish it?"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1,
     "content_block": {"type": "tool_use", "id": "toolu_demo", "name": "publish", "input": {}}},
    {"type": "content_block_delta", "index": 1,
     "delta": {"type": "input_json_delta", "partial_json": '{"version": "0.16.1"}'}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 64}},
    {"type": "message_stop"},
)  # fmt: skip


_SIGNS = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heard:
    """One request that reached a server."""

    host: str
    path: str
    key: str
    body: str


class Internet:
    """Both servers, behind one port; the name that is asked for decides which of them answers."""

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        self.reply: Callable[[dict[str, Any]], Sequence[dict[str, Any]]] = lambda _: _STREAM
        self.heard: list[Heard] = []
        self.authority = folder / "authority.pem"
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"internet": self}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificates(folder, self.authority))
        # The handshake belongs to the connection's own thread: one that says nothing must not hold up the others.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> list[Heard]:
        """What was heard until now."""
        heard, self.heard = self.heard, []
        return heard


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the handshake has made no request, and only requests are remembered."""


class _Handler(BaseHTTPRequestHandler):
    internet: Internet

    def do_POST(self) -> None:
        """Remember; answer."""
        host = self.headers.get("host", "").partition(":")[0]
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode("utf-8", "replace")
        key = self.headers.get("x-api-key", "")
        self.internet.heard.append(Heard(host, self.path, key, body))
        if host != MODELS:
            self._answer(201, {"taken": True})
        elif key != self.internet.key:
            self._answer(401, {"type": "error", "error": {"type": "authentication_error"}})
        elif self.path == "/v1/messages":
            self._stream(self.internet.reply(json.loads(body)))
        else:
            self._answer(200, {"id": "file_demo"})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Sequence[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """The story tells what is to be told."""


def _certificates(folder: Path, authority: Path) -> Path:
    """An authority for a day, written to `authority`; where the servers' key and certificate are."""
    now, day = datetime.now(UTC), timedelta(days=1)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the demonstration")])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    common = (
        x509.CertificateBuilder().issuer_name(name).not_valid_before(now - day).not_valid_after(now + day)
    )

    def signed(unsigned: x509.CertificateBuilder, of: ec.EllipticCurvePrivateKey) -> bytes:
        numbered = unsigned.public_key(of.public_key()).serial_number(x509.random_serial_number())
        return numbered.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root = (
        common.subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
        .add_extension(_SIGNS, critical=True)
    )
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in (MODELS, PACKAGES, STRANGER)])
    server = (
        common.subject_name(x509.Name([]))
        .add_extension(names, critical=True)
        .add_extension(issuer, critical=False)
    )
    authority.write_bytes(signed(root, root_key))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair = folder / "server.pem"
    pair.touch(mode=0o600)
    pair.write_bytes(private + signed(server, key))
    return pair
