"""The handshake of a WebSocket (RFC 6455 §4): what both sides have to say before what follows is frames.

Pure. A front end that believes any 101 lets a program speak HTTP behind it that nobody decides: an upstream answers
with that status for many reasons, a proxy behind it may have agreed to nothing. So a request that asks otherwise than
it should is refused, and an answer that does not prove that it is one to this request.

    request_problem("GET", "HTTP/1.1", request.headers)     # None: it asks as it should
    answer_problem(request.headers, response.headers)       # None: the server has agreed
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

VERSION = "13"
_SERVER_ID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = 16
"""Bytes of a decoded `Sec-WebSocket-Key`."""

Fields = Mapping[str, str]
"""Headers by their name in any case, all values of one joined with commas."""


def request_problem(method: str, version: str, untrusted_fields: Fields) -> str | None:
    """Why a request for a WebSocket is not carried; None when it may be."""
    if method != "GET" or version != "HTTP/1.1":
        return "a WebSocket is asked for by a GET of HTTP/1.1"
    if "upgrade" not in _words(untrusted_fields, "connection"):
        return "a WebSocket is asked for with `Connection: Upgrade`"
    if (said := untrusted_fields.get("sec-websocket-version", "")) != VERSION:
        return f"Sec-WebSocket-Version {said[:20]!r} is not {VERSION}"
    if _decoded(untrusted_fields.get("sec-websocket-key", "")) is None:
        return f"Sec-WebSocket-Key is not {_KEY} bytes in base64"
    if "transfer-encoding" in untrusted_fields or untrusted_fields.get("content-length", "0").strip() != "0":
        return "a WebSocket is asked for without a body"
    return None


def answer_problem(fields: Fields, untrusted_answer: Fields) -> str | None:
    """Why an answer of 101 makes no WebSocket of a connection; None when it does.

    Args:
        fields: of the request as it went out.
        untrusted_answer: of the answer.
    """
    if untrusted_answer.get("upgrade", "").lower() != "websocket":
        return "it answered 101 without `Upgrade: websocket`"
    if "upgrade" not in _words(untrusted_answer, "connection"):
        return "it answered 101 without `Connection: Upgrade`"
    if untrusted_answer.get("sec-websocket-accept") != accepting(fields.get("sec-websocket-key", "")):
        return "its Sec-WebSocket-Accept is not of this request's key"
    if extended(untrusted_answer) and "sec-websocket-extensions" not in fields:
        return "it chose extensions that it was not offered"
    return None


def extended(fields: Fields) -> bool:
    """Whether an answer chose extensions: of these one may use reserved bits of frames."""
    return bool(fields.get("sec-websocket-extensions", "").strip())


def accepting(key: str) -> str:
    """The `Sec-WebSocket-Accept` of a server that agrees."""
    return base64.b64encode(hashlib.sha1(key.encode() + _SERVER_ID, usedforsecurity=False).digest()).decode()


def _words(fields: Fields, name: str) -> set[str]:
    return {word.strip().lower() for word in fields.get(name, "").split(",")}


def _decoded(untrusted_key: str) -> bytes | None:
    try:
        found = base64.b64decode(untrusted_key, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == _KEY else None
