"""The other end of the session socket, for the tests of `capsule run`: it listens and answers as a test says.

It speaks the protocol of `docs/formats/egress.md` with real descriptors; it decides nothing.

    with Peer(state) as peer:
        peer.answer()                       # in another thread: a session, and `ready`
        peer.session["ports"]
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any, Self

IP_PKTINFO = 8  # ip(7); not in the socket module
_PKTINFO = struct.Struct("=i4s4s")


class Peer:
    """Whoever answers at the socket of `state`.

    Attributes:
        session: the first frame.
        sockets: UDP 53, TCP 53, then one a port.
        frames: what came after the first, in order.
        parts: whether it has a last word when the run is over.
    """

    def __init__(self, state: Path) -> None:
        directory = state / "capsule/egress"
        directory.mkdir(mode=0o700, parents=True)
        directory.chmod(0o700)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(os.fspath(directory / "socket"))
        self._listening.listen()
        self._listening.settimeout(30)
        self._came = threading.Condition()
        self.session: dict[str, Any] = {}
        self.sockets: list[socket.socket] = []
        self.frames: list[dict[str, Any]] = []
        self.over = threading.Event()
        self.parts = True
        self._connection: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._listening.close()

    def start(self, *, ready: bool = True) -> None:
        """Answer one session in a thread of its own."""
        threading.Thread(target=self._serve, args=(ready,), daemon=True).start()

    def _serve(self, ready: bool) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            self._connection, _ = self._listening.accept()
            buffer, numbers = b"", array.array("i")
            while True:
                data, ancillary, _, _ = self._connection.recvmsg(1 << 16, socket.CMSG_SPACE(4 * 253))
                for level, kind, content in ancillary:
                    assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                    numbers.frombytes(content)
                if not data:
                    break
                buffer += data
                while len(buffer) >= 4 and len(buffer) >= 4 + int.from_bytes(buffer[:4], "big"):
                    size = 4 + int.from_bytes(buffer[:4], "big")
                    frame, buffer = json.loads(buffer[4:size]), buffer[size:]
                    self._take(frame, numbers, ready)
        self.over.set()
        if self.parts:
            with contextlib.suppress(OSError):
                self.say({"type": "over"})
        self.leave()

    def _take(self, frame: dict[str, Any], numbers: array.array[int], ready: bool) -> None:
        with self._came:
            if frame["type"] == "session":
                self.session = frame
                self.sockets = [socket.socket(fileno=number) for number in numbers]
                for one in self.sockets:
                    one.settimeout(20)
                if ready:
                    self.say({"type": "ready", "rules": 0, "problems": []})
            else:
                self.frames.append(frame)
            self._came.notify_all()

    def wait(self, kind: str, timeout: float = 20) -> dict[str, Any]:
        """The first frame of a kind."""

        def found() -> dict[str, Any] | None:
            if kind == "session" and self.session:
                return self.session
            return next((frame for frame in self.frames if frame["type"] == kind), None)

        with self._came:
            frame = self._came.wait_for(found, timeout)
        assert frame is not None, f"no frame of type {kind}"
        return frame

    def say(self, frame: dict[str, Any]) -> None:
        """One frame to the supervisor."""
        assert self._connection is not None
        body = json.dumps(frame).encode()
        self._connection.sendall(len(body).to_bytes(4, "big") + body)

    def record(self, kind: str, **fields: Any) -> None:
        """An entry for the log."""
        self.say({"type": "record", "entry": {"type": kind, **fields}})

    def leave(self) -> None:
        """As if this process died: everything it holds is closed."""
        for one in self.sockets:
            one.close()
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            self._connection.close()


def answer_names(udp: socket.socket) -> tuple[bytes, str]:
    """Take one datagram and answer `re: ` and its bytes from the address that was asked; both are returned."""
    data, ancillary, _, source = udp.recvmsg(2048, socket.CMSG_SPACE(_PKTINFO.size))
    asked = next(
        _PKTINFO.unpack(content)[2] for level, kind, content in ancillary if (level, kind) == (0, IP_PKTINFO)
    )
    reply = _PKTINFO.pack(0, asked, bytes(4))
    udp.sendmsg([b"re: " + data], [(socket.IPPROTO_IP, IP_PKTINFO, reply)], 0, source)
    return data, socket.inet_ntoa(asked)
