"""The API of the README's network section, on loopback: it knows its user by the token, and takes orders.

with Api(folder, "my-real-token") as api:
    api.policy(text)        # the page's policy, with where the name leads on this machine
"""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.egress.certificates import make

NAME = "api.example.org"


class Api:
    """One server; `heard` has the method, path and token of each request."""

    def __init__(self, folder: Path, token: str) -> None:
        self.token = token
        self.heard: list[tuple[str, str, str]] = []
        authority = make("Authority of the stories")
        certificate, key = make(NAME, authority, names=(NAME,)).write(folder, "api")
        self.authority, _ = authority.write(folder, "authority")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def policy(self, text: str) -> str:
        """The page's, which says nothing of where the name leads."""
        here = f"127.0.0.1:{self._server.server_address[1]}"
        more = f'  upstreams: [{{host: {NAME}, address: "{here}"}}]\n  authorities: ["{self.authority}"]\n'
        assert "\nsecrets:" in text
        return text.replace("\nsecrets:", f"\n{more}secrets:")


class _Handler(BaseHTTPRequestHandler):
    api: Api

    def do_GET(self) -> None:
        """Who is it?"""
        known = self._token() == f"Bearer {self.api.token}"
        self._answer(200 if known else 401, {"user": "me"} if known else {"error": "who are you?"})

    def do_POST(self) -> None:
        """An order."""
        self._token()
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(201, {"job": 1})

    def _token(self) -> str:
        token = self.headers.get("authorization", "")
        self.api.heard.append((self.command, self.path, token))
        return token

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """`heard` has it."""
