"""A request in the forms that it has on its way: what rules see of its body, how it goes out, fields as text and bytes.

Pure but for mitmproxy's messages. Refuses nothing.

    body_event(request, b'{"a": 1}')     # {"size": 8, "truncated": False, "text": …, "json": {"a": 1}}
    settle(request, place)               # origin-form with a Host
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mitmproxy import http

if TYPE_CHECKING:
    from capsule.egress.story import Place

TEXT = 64 << 10
"""Bytes of a body that rules see as text."""
SHORT = 64 << 10
"""Bytes of a body that is waited for when a placeholder may stand in it; longer ones are searched as they pass."""
IDENTITY = ("", "identity")
"""Content codings that are none."""
_TALKS = ("application/grpc", "application/connect+")


def head_size(request: http.Request) -> int:
    """Bytes of a request's head: what a program sends out in a target and in fields counts like a body."""
    fields = sum(len(name) + len(value) + 4 for name, value in request.headers.fields)
    return len(request.data.method) + len(request.data.path) + fields


def body_event(request: http.Request, body: bytes | None) -> dict[str, Any]:
    """The `http.body` section; `long` marks a body that nobody looked at and stays in this process."""
    if body is None:
        return {"truncated": True, "long": True}
    found: dict[str, Any] = {"size": len(body), "truncated": len(body) > TEXT}
    if request.headers.get("content-encoding", "").lower() not in IDENTITY:
        return found
    try:
        found["text"] = body[:TEXT].decode("utf-8", "strict" if len(body) <= TEXT else "ignore")
    except UnicodeDecodeError:
        return found
    if "json" in request.headers.get("content-type", "") or body[:1] in (b"{", b"["):
        try:
            found["json"] = json.loads(body, object_pairs_hook=_one_reading)
        except (ValueError, RecursionError):
            return found
    return found


def _one_reading(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which every reader takes the same values, whichever of two keys it takes and whatever case."""
    found = dict(pairs)
    if len({key.casefold() for key in found}) < len(pairs):
        raise ValueError("a key stands twice, or in two cases")
    return found


def may_be_short(request: http.Request) -> bool:
    """Whether the body may be one of at most `SHORT` bytes; one that is spoken while it is answered is not."""
    said = request.headers.get("content-length", "")
    if said:
        return said.isascii() and said.isdigit() and len(said) < 20 and 0 < int(said) <= SHORT
    talks = request.headers.get("content-type", "").startswith(_TALKS)
    return not talks and (request.is_http2 or "transfer-encoding" in request.headers)


def settle(request: http.Request, place: Place) -> None:
    """The request in the form that goes out: origin-form with a Host, no upgrade but WebSocket's."""
    headers = request.headers
    if not request.is_http2:
        request.authority = ""
        if "host" not in headers:
            headers.insert(0, "Host", place.name if place.usual_port else f"{place.name}:{place.port}")
    upgrade = headers.get("upgrade")
    if upgrade is not None and upgrade.lower() != "websocket":
        del headers["upgrade"]  # RFC 9110 §7.8: a server may ignore it, so nobody relies on it
        headers.pop("http2-settings", None)
    headers.pop("proxy-connection", None)
    headers.pop("proxy-authorization", None)


def decoded(headers: http.Headers) -> list[tuple[str, str]]:
    """Fields as rules edit them."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.fields]


def encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Values as they came, and those of rules in UTF-8 where Latin-1 has not their letters."""
    found = []
    for name, value in headers:
        latin = all(ord(character) < 0x100 for character in value)
        found.append((name.encode("latin-1"), value.encode("latin-1" if latin else "utf-8")))
    return found
