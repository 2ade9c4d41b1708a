"""The client of egress's HTTP seam: one request a connection over this user's Unix socket (docs/formats/egress.md).

Refuses a socket that another user serves, and answers that are not of the documented form. Nothing is started: when no
run reaches hosts, nobody answers, and `Unreached` says so.

    Seam().get("/asks")["asks"]
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

from capsule.errors import CapsuleError, Fault
from capsule.places import state_directory

LARGEST = 4 << 20
"""Bytes of an answer."""
_UCRED = struct.Struct("=iII")


class UnreachedError(CapsuleError):
    """No egress answers: no run of this user reaches hosts at this moment."""

    fault = Fault.CALLER
    exit_code = 1


class SeamError(CapsuleError):
    """Egress answers with something else than it should."""

    fault = Fault.HOST


class Seam:
    """Asks of every run of this user."""

    def __init__(self, path: Path | None = None) -> None:
        """At the socket `path`; by default the one this user's runs share."""
        self.path = path if path is not None else state_directory() / "egress" / "socket"

    def get(self, path: str, wait: int = 0) -> dict[str, Any]:
        """What is there; `wait`: seconds to wait for a change.

        Raises:
            UnreachedError: nobody answers.
            SeamError: it answers something else.
        """
        status, content = self._request("GET", f"{path}?wait={wait}" if wait else path, None, 30.0 + wait)
        if status != 200 or not isinstance(content, dict):
            raise SeamError(f"egress answered {status} to GET {path}", next_step="restart capsule-egress")
        return content

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """The status, and what is said about it.

        Raises:
            UnreachedError: nobody answers.
            SeamError: it answers something else.
        """
        status, content = self._request("POST", path, body, 30.0)
        said = content.get("error", "") if isinstance(content, dict) else ""
        return status, said if isinstance(said, str) else ""

    def _request(self, method: str, path: str, body: Any, timeout: float) -> tuple[int, Any]:
        connection = _Connection(self.path, timeout)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body).encode(),
                {} if body is None else {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            untrusted = response.read(LARGEST)
        except (FileNotFoundError, ConnectionRefusedError):
            raise UnreachedError(
                "no run of yours reaches hosts at this moment, so nothing is asked",
                next_step="asks are there while a run with 'network: hosts' waits for an answer",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise SeamError(
                f"egress does not answer at {self.path}: {str(error) or type(error).__name__}",
                next_step="see egress.log beside the socket",
            ) from None
        finally:
            connection.close()
        if response.length:
            raise SeamError("egress's answer is cut off, or too long", next_step="ask again")
        if not untrusted:
            return response.status, None
        try:
            return response.status, json.loads(untrusted)
        except (ValueError, RecursionError):
            raise SeamError(
                "egress answers with something that is not JSON", next_step="restart capsule-egress"
            ) from None


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket whose other end is ours."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("egress", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(self.timeout)
            _reach(sock, self._path)
            _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            if uid != os.getuid():
                raise OSError(f"another user (uid {uid}) serves the socket")
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _reach(sock: socket.socket, path: Path) -> None:
    """Connect to `path` however long it is: an address holds 107 bytes (unix(7)); its directory goes by descriptor."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
