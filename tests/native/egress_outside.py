"""Servers outside and a really started `capsule-egress`: what the end-to-end tests of hosts stand between.

`Outside` answers HTTPS for every name of its certificate and keeps all it was sent; it answers a model's call where the
path is one's. `Installation` is a user's directory of state: who serves there, and their end.

    with Outside(folder, "a.example") as outside:
        outside.asked("a.example")
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.egress.certificates import make


@dataclass(frozen=True)
class Request:
    """One request as the server read it."""

    host: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Outside:
    """One HTTPS server on loopback for several names."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.requests: list[Request] = []
        self.names = names
        authority = make("outside")
        self.authority, _ = authority.write(folder, "outside")
        chain = make(names[0], authority, names=names).write(folder, "outside-leaf")
        handler = type("Handler", (_Handler,), {"outside": self})
        self.server = _Server(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*chain)
        context.set_alpn_protocols(["http/1.1"])
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = int(self.server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def asked(self, host: str) -> list[Request]:
        """What came for one name."""
        return [request for request in self.requests if request.host == host]

    def network(self, *entries: str, more: str = "") -> str:
        """`network:` of a policy: the entries (flow mappings, or names to be inspected), each sent to this server."""
        ways = ", ".join(f'{{host: {name}, address: "127.0.0.1:{self.port}"}}' for name in self.names)
        full = [
            entry if entry.startswith("{") else f"{{host: {entry}, inspect: always}}" for entry in entries
        ]
        hosts = "".join(f"    - {entry}\n" for entry in full)
        return f"network:\n  hosts:\n{hosts}  upstreams: [{ways}]\n  authorities: [{self.authority}]\n{more}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that goes away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    outside: Outside

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        host = headers.get("host", "").partition(":")[0]
        self.outside.requests.append(Request(host, self.command, self.path, headers, body))
        if self.path == "/v1/messages":
            usage = {"input_tokens": 400, "output_tokens": 100}
            message = {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-5-haiku-20241022",
                "content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn", "usage": usage,
            }  # fmt: skip
            self._answer(json.dumps(message).encode(), "application/json")
        elif self.path.startswith("/bytes/"):
            self._answer(bytes(int(self.path.rpartition("/")[2])), "application/octet-stream")
        else:
            self._answer(f"hello {self.path}".encode(), "text/plain")

    do_POST = do_PUT = do_GET  # noqa: N815 - the names http.server looks for

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Tests look at `Outside.requests`."""


class Installation:
    """One user's directory of state, with a name short enough for a socket's; whoever serves there ends with it."""

    def __init__(self, owner: int | None = None) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="ce-", dir="/var/tmp"))
        if owner is not None:
            os.chown(self.state, owner, -1)

    @property
    def egress(self) -> Path:
        """Where the socket, the lock and the authority are."""
        return self.state / "capsule/egress"

    def serving(self) -> list[int]:
        """Processes that serve this installation: the launcher, the first process inside, the interpreter."""
        log = str(self.egress / "egress.capsule.log").encode()
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if log in words and b"capsule.egress" in words:
                        found.append(int(entry.name))
        return found

    def supervisor(self) -> int:
        """The one process that serves here."""
        (first,) = [pid for pid in self.serving() if _parent(pid) not in self.serving()]
        return first

    def interpreter(self) -> int:
        """The interpreter that is `capsule-egress`, below its supervisor."""
        tree = _parents()
        edge = {self.supervisor()}
        found: list[int] = []
        while edge:
            edge = {pid for pid, parent in tree.items() if parent in edge}
            found += edge
        for pid in found:
            with contextlib.suppress(OSError):
                if b"-m\0capsule.egress\0" in Path(f"/proc/{pid}/cmdline").read_bytes() and not Path(
                    f"/proc/{pid}/exe"
                ).readlink().name.startswith("capsule"):
                    return pid
        raise AssertionError("no interpreter serves here")

    def gone(self, within: float) -> bool:
        """Whether nobody serves here any more, waiting for it at most so many seconds."""
        until = time.monotonic() + within
        while self.serving():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def close(self) -> None:
        """Ends those who serve here, by their numbers."""
        for pid in self.serving():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if not self.gone(10):
            for pid in self.serving():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.state)


def _parent(pid: int) -> int:
    return _parents().get(pid, 0)


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = (entry / "stat").read_text()
                found[int(entry.name)] = int(text.rpartition(")")[2].split()[1])
    return found
