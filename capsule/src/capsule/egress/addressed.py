"""Whether a request is for what its connection is to: every name that it says, in its target and its Host.

Needs Python 3.12 and mitmproxy 12. Refuses two Hosts, none, another host, another port, a target that is no path, and
what only a proxy would carry: a whole address of another host.

    disagreement(flow.request, place)       # None, or a Verdict
"""

from __future__ import annotations

from mitmproxy import http

from capsule.egress.story import Place
from capsule.egress.verdict import Verdict
from capsule.policy.addresses import HostError, parse_authority


def disagreement(request: http.Request, place: Place) -> Verdict | None:
    """Why the request is for something else than the connection, or None."""
    target = request.data.path
    if not target.startswith(b"/") and (target, request.data.method) != (b"*", b"OPTIONS"):
        shown = target[:200].decode("utf-8", "backslashreplace")
        return Verdict(
            "block", "protocol", f"the target {shown!r} is no path", allow="send a path that begins with '/'"
        )
    hosts = [value for name, value in request.headers.fields if name.lower() == b"host"]
    if len(hosts) > 1:
        return Verdict("block", "name", "the request has two Host headers")
    said = [request.data.authority] if request.data.authority else []
    said += hosts
    if not said:
        return Verdict("block", "name", "the request names no host")
    if request.data.authority and not request.is_http2 and not _is_for(request.data.authority, place):
        return _for_a_proxy(request.data.authority, place)
    for untrusted_authority in said:
        if not _is_for(untrusted_authority, place):
            shown = untrusted_authority.decode("latin-1")
            return Verdict(
                "block",
                "name",
                f"the request is for {shown!r}, the connection is to {place.name}:{place.port}",
                allow="use one name in the URL, in the TLS server name and in the Host header",
            )
    return None


def _for_a_proxy(untrusted_authority: bytes, place: Place) -> Verdict:
    """`GET http://other.example/` (RFC 9112 §3.2.2): what a program sends that was told of a proxy for plain HTTP."""
    text = untrusted_authority.decode("latin-1")
    try:
        host, port = parse_authority(text)
    except HostError:
        listed = "that host"
    else:
        listed = f"network: hosts: [{{host: {host.name}, ports: [{80 if port is None else port}]}}]"
    return Verdict(
        "block",
        "name",
        f"a request for the whole address of {text!r} was sent to {place.name}:{place.port}, as to a proxy; "
        "plain HTTP is not carried so",
        allow="take http_proxy out of the program's environment, none is needed here, and list the host itself: "
        f"{listed}",
    )


def _is_for(untrusted_authority: bytes, place: Place) -> bool:
    if untrusted_authority == place.name.encode() and place.usual_port:
        return True
    try:
        host, port = parse_authority(untrusted_authority.decode("latin-1"))
    except HostError:
        return False
    return host.name == place.name and (place.usual_port if port is None else port == place.port)
