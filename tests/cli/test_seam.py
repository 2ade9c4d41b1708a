"""The client against servers that say what they should not; against the real one: test_asks and test_answer."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule.cli.seam import Seam, SeamError, UnreachedError

JSON = b'{"asks": []}'


class Server:
    """Answers every connection with the same bytes, and keeps what was asked."""

    def __init__(self, path: Path) -> None:
        self.reply = b""
        self.asked: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            # Whoever refuses an answer closes before it is said.
            with connection, contextlib.suppress(OSError):
                asked = b""
                while not _whole(asked) and (part := connection.recv(65536)):
                    asked += part
                self.asked.append(asked)
                connection.sendall(self.reply)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _whole(asked: bytes) -> bool:
    head, end, body = asked.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: ([0-9]+)", head)
    return bool(end) and len(body) >= (int(length.group(1)) if length else 0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "socket")
    yield found
    found.close()


def ok(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body


def test_a_request_and_its_answer(server: Server, tmp_path: Path) -> None:
    seam = Seam(tmp_path / "socket")
    server.reply = ok(JSON)
    assert seam.get("/asks", wait=3) == {"asks": []}
    assert server.asked[0].startswith(b"GET /asks?wait=3 HTTP/1.1\r\n")
    server.reply = ok(b'{"error": "gone"}', b"404 Not Found")
    assert seam.post("/asks/a1", {"action": "deny"}) == (404, "gone")
    assert b'{"action": "deny"}' in server.asked[1]
    server.reply = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert seam.post("/asks/a1", {}) == (204, "")


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"nonsense\r\n\r\n", ok(b"not json"), ok(b"[]"), ok(b"[" * 100_000), ok(JSON, b"500 No"),
        ok(b'"' + b"x" * (5 << 20) + b'"'), b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(server: Server, tmp_path: Path, reply: bytes) -> None:
    server.reply = reply
    with pytest.raises(SeamError):
        Seam(tmp_path / "socket").get("/asks")


def test_a_deep_home_is_reached(server: Server, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    (tmp_path / "socket").rename(deep / "socket")
    server.reply = ok(JSON)
    assert Seam(deep / "socket").get("/asks") == {"asks": []}


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(UnreachedError):
        Seam(tmp_path / "socket").get("/asks")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "socket"))
    stale.close()
    with pytest.raises(UnreachedError):
        Seam(tmp_path / "socket").get("/asks")


def test_a_socket_of_another_user_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.reply = ok(JSON)
    seam = Seam(tmp_path / "socket")
    assert seam.get("/asks") == {"asks": []}
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(SeamError, match="another user"):
        seam.get("/asks")
    assert [asked for asked in server.asked if asked] == server.asked[:1], "nothing was sent"


def test_it_looks_where_runs_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Seam().path == tmp_path / "capsule/egress/socket"
