"""The sections of `events.md` that egress fills, from what the protocol layers parsed.

Pure. Absent is absent: a field that is not known has no key. Refuses nothing; text that is not UTF-8 is shown escaped.

    http_event(flow.request, place)     # {"method": "GET", "scheme": "https", "host": "a.example", …}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capsule.policy.urlpath import plain_path

if TYPE_CHECKING:
    from mitmproxy.http import Headers, Request, Response

    from capsule.egress.story import Place


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def headers_event(headers: Headers) -> dict[str, str]:
    """Lower-case names to values joined by `, `."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers.fields:
        name, value = _text(raw_name).lower(), _text(raw_value)
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def http_event(request: Request, place: Place) -> dict[str, Any]:
    """The `http` section at a request's head."""
    target = _text(request.data.path)
    _, mark, query = target.partition("?")
    scheme = "https" if place.hello is not None else "http"
    headers = headers_event(request.headers)
    authority = place.name if place.usual_port else f"{place.name}:{place.port}"
    found: dict[str, Any] = {
        "method": _text(request.data.method),
        "scheme": scheme,
        "host": place.name,
        "port": place.port,
        "path": plain_path(target),
        "url": f"{scheme}://{authority}{target if target.startswith('/') else '/'}",
        "version": "2" if request.is_http2 else _text(request.data.http_version).removeprefix("HTTP/"),
        "headers": headers,
    }
    if mark:
        found["query"] = query
    if place.name == place.target[0]:
        found["address"] = place.name
    if "user-agent" in headers:
        found["user_agent"] = headers["user-agent"]
    if "content-type" in headers:
        found["content_type"] = headers["content-type"]
        if headers["content-type"].startswith("application/grpc"):
            found["grpc"] = True
    if headers.get("upgrade", "").lower() == "websocket":
        found["websocket"] = True
    if place.hello is not None and place.hello.name is not None:
        found["sni"] = place.hello.name
    if place.via:
        found["via"] = place.via
    return found


def response_event(response: Response, size: int | None) -> dict[str, Any]:
    """The `http.response` section; its size is known when it is over."""
    headers = headers_event(response.headers)
    found: dict[str, Any] = {"headers": headers}
    if size is not None:
        found["size"] = size
    if "content-type" in headers:
        found["content_type"] = headers["content-type"]
    return found
