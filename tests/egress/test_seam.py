"""HTTP on the daemon's socket: what is answered, and what is refused."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from typing import Any

import pytest

from capsule.egress import seam
from tests.egress.supervisor import Daemon


def ask(daemon: Daemon, data: bytes) -> tuple[int, Any]:
    """Status and content of the answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.path))
        sock.settimeout(40)
        sock.sendall(data)
        got = b""
        while part := sock.recv(65536):
            got += part
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


def get(daemon: Daemon, path: str) -> tuple[int, Any]:
    return ask(daemon, f"GET {path} HTTP/1.1\r\nHost: egress\r\n\r\n".encode())


def post(daemon: Daemon, path: str, content: Any) -> tuple[int, Any]:
    body = json.dumps(content).encode()
    return ask(daemon, f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def test_nothing_waits(daemon: Daemon) -> None:
    assert get(daemon, "/asks") == (200, {"asks": []})
    assert get(daemon, "/sessions") == (200, {"sessions": []})


def test_waiting_ends_by_itself(daemon: Daemon) -> None:
    started = time.monotonic()
    assert get(daemon, "/asks?wait=1") == (200, {"asks": []})
    assert time.monotonic() - started > 0.9


def test_what_waits_already_is_told_at_once() -> None:
    class Waiting:
        def asks(self) -> list[dict[str, Any]]:
            return [{"id": "a-1"}]

        async def change(self, seconds: float) -> None:
            raise AssertionError(f"it slept {seconds} s over one that waits")

    found = asyncio.run(seam._route(Waiting(), "GET", "/asks", "wait=30", b""))  # type: ignore[arg-type]
    assert found == (200, {"asks": [{"id": "a-1"}]})


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"POST /asks HTTP/1.1\r\n\r\n", 405),
        (b"GET /asks/x HTTP/1.1\r\n\r\n", 405),
        (b"DELETE /sessions HTTP/1.1\r\n\r\n", 405),
        (b"GET /asks HTTP/1.1\r\nOrigin: https://evil.example\r\n\r\n", 403),
        (b"GET /asks?wait=x HTTP/1.1\r\n\r\n", 400),
        (b"NONSENSE\r\n\r\n", 400),
        (b"POST /asks/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /asks/x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /asks/x HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", 413),
        (b"GET /asks HTTP/1.1\r\nX: " + b"y" * 20000 + b"\r\n\r\n", 413),
        (b"POST /asks/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b'POST /asks/x HTTP/1.1\r\nContent-Length: 18\r\n\r\n{"action":"allow"}', 404),
    ],
)
def test_what_is_refused(daemon: Daemon, data: bytes, status: int) -> None:
    found, content = ask(daemon, data)
    assert found == status, content
    assert "error" in content


def test_many_at_once(daemon: Daemon) -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(get(daemon, "/asks")[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [200] * 20
