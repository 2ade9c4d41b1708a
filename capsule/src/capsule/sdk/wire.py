r"""Frames: how the SDK, the supervisor and the worker speak (docs/formats/control.md).

A frame is a 4-byte big-endian length and that many bytes: one line of JSON, the envelope, and after its
newline the body. Supervisor and worker agree on envelopes; bodies are for the two Pythons alone.

Refuses: a frame longer than the caller allows (before reading it), an envelope without its newline or that
is not a JSON object, a connection that ends within a frame.

    pack({"kind": "close"})                     # b'\x00\x00\x00\x11{"kind":"close"}\n'
    receive(sock, limit=1 << 20)                # ({"kind": "result", …}, b"…")
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Final

from capsule.sdk.values import compact

HEADER: Final = 4
MAX_ENVELOPE: Final = 64 * 1024
"""Bytes an envelope may have, its newline included."""

_scan: Final[Any] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # since JSON is in the library


class WireError(Exception):
    """The other side broke the framing, or went away."""


def pack(envelope: Mapping[str, object], body: bytes = b"") -> bytes:
    """The bytes of one frame."""
    line = compact(envelope).encode("ascii") + b"\n"
    return (len(line) + len(body)).to_bytes(HEADER, "big") + line + body


def split(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Envelope and body of a frame's payload.

    Raises:
        WireError: there is no envelope in it.
    """
    end = payload.find(b"\n", 0, MAX_ENVELOPE)
    if end < 0:
        raise WireError("a frame without an envelope")
    try:
        line = payload[:end].decode("utf-8")
        envelope, after = _scan(line, 0)
    except (ValueError, RecursionError, StopIteration):
        raise WireError("an envelope that is not JSON") from None
    if after != len(line):
        raise WireError("an envelope with something after it")
    if not isinstance(envelope, dict):
        raise WireError("an envelope that is not an object")
    return envelope, payload[end + 1 :]


def length(header: bytes, limit: int) -> int:
    """The length a header announces.

    Raises:
        WireError: more than `limit`.
    """
    size = int.from_bytes(header, "big")
    if size > limit:
        raise WireError(f"a frame of {size} bytes where at most {limit} are allowed")
    return size


def receive(connection: socket.socket, limit: int) -> tuple[dict[str, Any], bytes]:
    """One frame from a blocking socket.

    Raises:
        WireError: the other side closed, or broke the framing.
        OSError: the socket failed, or its timeout passed.
    """
    chunk = connection.recv(65536)
    if len(chunk) >= HEADER and len(chunk) == HEADER + length(chunk[:HEADER], limit):
        return split(chunk[HEADER:])
    data = bytearray(chunk)
    wanted = HEADER
    known = False
    while True:
        if not chunk:
            raise WireError("the connection ended" + (" within a frame" if data else ""))
        if not known and len(data) >= HEADER:
            wanted = HEADER + length(bytes(data[:HEADER]), limit)
            known = True
        if known and len(data) >= wanted:
            break
        chunk = connection.recv(min(max(wanted - len(data), 65536), 1 << 20))
        data += chunk
    if len(data) > wanted:
        raise WireError("more than one frame where one was due")
    return split(bytes(data[HEADER:]))


def receive_next(connection: socket.socket, limit: int, head: bytes = b"") -> tuple[dict[str, Any], bytes]:
    """One frame from a blocking socket on which others may follow; `head` is what was already read of it.

    Raises:
        WireError: the other side closed, or broke the framing.
        OSError: the socket failed.
    """
    header = head + _exactly(connection, HEADER - len(head))
    return split(_exactly(connection, length(header, limit)))


def _exactly(connection: socket.socket, wanted: int) -> bytes:
    data = b""
    while len(data) < wanted:
        chunk = connection.recv(min(wanted - len(data), 1 << 20), socket.MSG_WAITALL)
        if not chunk:
            raise WireError("the connection ended")
        data += chunk
    return data
