"""Servers outside that fail: each a real one on loopback, under certificates of one authority, good and bad.

with Faulty(folder) as faulty:
    faulty.network("good.example", "expired.example")
"""

from __future__ import annotations

import datetime
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Self

from tests.egress.certificates import NOW, Pair, make
from tests.egress.upstream import Upstream

HOUR = datetime.timedelta(hours=1)
CERTIFICATES = ("expired.example", "early.example", "wrong.example", "stranger.example", "own.example")
GOOD = "good.example"
SILENT, RESETS, CRUMBS = "silent.example", "resets.example", "crumbs.example"


class Faulty:
    """One server for each way to fail, each under a name of its own.

    Attributes:
        servers: name → one that speaks HTTP over TLS.
    """

    def __init__(self, folder: Path) -> None:
        authority = make("outside")
        self.authority, _ = authority.write(folder, "outside")
        self.servers = {
            name: Upstream(_certificate(name, authority).write(folder, name), ("http/1.1",))
            for name in (GOOD, *CERTIFICATES)
        }
        self._raw = {name: _Raw(name) for name in (SILENT, RESETS, CRUMBS)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers.values():
            server.close()
        for raw in self._raw.values():
            raw.close()

    @property
    def good(self) -> Upstream:
        """The one whose certificate is good; it fails by path."""
        return self.servers[GOOD]

    @property
    def silent(self) -> int:
        """How many connections wait for the one that says nothing."""
        return len(self._raw[SILENT].kept)

    def network(self, *names: str, more: str = "") -> str:
        """`network:` of a policy that inspects these names and sends each to its server."""
        ports = {name: server.port for name, server in self.servers.items()}
        ports |= {name: raw.port for name, raw in self._raw.items()}
        hosts = "".join(f"    - {{host: {name}, inspect: always}}\n" for name in names)
        ways = ", ".join(f'{{host: {name}, address: "127.0.0.1:{ports[name]}"}}' for name in names)
        return f"network:\n  hosts:\n{hosts}  upstreams: [{ways}]\n  authorities: [{self.authority}]\n{more}"


def _certificate(name: str, authority: Pair) -> Pair:
    match name:
        case "expired.example":
            return make(name, authority, names=(name,), end=NOW - HOUR)
        case "early.example":
            return make(name, authority, names=(name,), start=NOW + HOUR)
        case "wrong.example":
            return make(name, authority, names=("other.example",))
        case "stranger.example":
            return make(name, make("stranger"), names=(name,))
        case "own.example":
            return make(name, names=(name,))
    return make(name, authority, names=(name,))


class _Raw:
    """Below TLS: says nothing, resets what it accepts, or answers a byte at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._over = threading.Event()
        self.kept: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            if self._name == RESETS:
                sock.recv(100)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                continue
            self.kept.append(sock)
            if self._name == CRUMBS:
                threading.Thread(target=self._crumble, args=(sock,), daemon=True).start()

    def _crumble(self, sock: socket.socket) -> None:
        """The head of a TLS record that never becomes whole."""
        try:
            sock.sendall(b"\x16\x03\x03\x40\x00")
            while not self._over.is_set():
                sock.sendall(b"\0")
                time.sleep(0.2)
        except OSError:
            return

    def close(self) -> None:
        self._over.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)
        for sock in self.kept:
            sock.close()
