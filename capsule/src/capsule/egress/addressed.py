"""Whether a request is for what its connection is to: every name that it says, in its target, its Host and beside them.

Needs Python 3.12 and mitmproxy 12. Refuses two Hosts, none, another host, another port, a target that is no path, and
what only a proxy would carry: a whole address of another host. Fields by which front ends route (`ROUTING`, `Forwarded`
of RFC 7239, whole addresses in `X-Original-URL` and its like) must say the same host, or are refused.

    disagreement(flow.request, place)       # None, or a Verdict
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mitmproxy import http

from capsule.egress.forms import decoded
from capsule.egress.judgement import ANOTHER_PATH, DAV, OVERRIDING
from capsule.egress.story import Place
from capsule.egress.verdict import Verdict
from capsule.policy.addresses import HostError, parse_authority
from capsule.policy.fields import gateway_name

ROUTING = frozenset(
    b"x-forwarded-host x-forwarded-server x-host x-original-host x-http-host-override x-host-override x-rewrite-host"
    b" x-real-host x-proxy-host x-backend-host x-upstream-host x-envoy-original-host forwarded-host".split()
)
"""Fields that some front ends and frameworks take for the Host; names count as `fields.gateway_name` has them."""
_ELSEWHERE = ROUTING | {b"forwarded", b"destination"} | {name.encode() for name in ANOTHER_PATH}
_PAIR = r'[!#$%&\'*+.^_`|~0-9A-Za-z-]+[ \t]*=[ \t]*(?:"(?:[^"\\]|\\.)*"|[^",;\\\s]*)'
_FORWARDED = re.compile(rf"[ \t]*+(?:{_PAIR})?(?:[ \t]*+[;,][ \t]*+(?:{_PAIR})?)*+[ \t]*+")
_PARAMETER = re.compile(
    r'(?P<name>[^\s=;,"]+)[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",;\\\s]*))'
)
_WHOLE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]{2,}(?P<authority>[^/\\?#]*)")


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
    return _routed(request, place)


def _routed(request: http.Request, place: Place) -> Verdict | None:
    """Why a front end that looks at other fields than Host would send the request elsewhere, or None."""
    copies = _copies(request)
    for raw, value in request.headers.fields:
        name = raw.lower()
        if not name.replace(b"-", b"").isalnum():
            name = gateway_name(name.decode("latin-1")).encode("latin-1")
        if name not in _ELSEWHERE or (name == b"destination" and not copies):
            continue
        shown = raw[:40].decode("latin-1").lower()
        leave_out = "leave the header out, or name the connection's host in it"
        if name == b"forwarded" and not _FORWARDED.fullmatch(value.decode("latin-1")):
            return Verdict("block", "name", f"header {shown} is not of RFC 7239", allow=leave_out)
        for authority in _named(name, value.decode("latin-1")):
            if not _is_named(authority, place):
                return Verdict(
                    "block",
                    "name",
                    f"header {shown} names {authority[:200]!r}, the connection is to {place.name}:{place.port}",
                    allow=leave_out,
                )
    return None


def _copies(request: http.Request) -> bool:
    """Whether it may be one of WebDAV that names another place in `Destination`, in its first line or beside it."""
    if "destination" not in request.headers:
        return False
    said = [request.data.method.decode("latin-1")]
    said += [value for name, value in decoded(request.headers) if gateway_name(name) in OVERRIDING]
    return any(method.strip().upper() in DAV for values in said for method in values.split(","))


def _named(name: bytes, untrusted_value: str) -> Iterator[str]:
    """The hosts that such a field names, as it spells them."""
    if name == b"forwarded":
        for found in _PARAMETER.finditer(untrusted_value):
            if found["name"].lower() == "host":
                quoted = found["quoted"]
                yield found["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        return
    for untrusted_part in map(str.strip, untrusted_value.split(",")):
        if name in ROUTING:
            if untrusted_part:
                yield untrusted_part
        elif (whole := _WHOLE.match(untrusted_part)) is not None:
            yield whole["authority"]


def _is_named(untrusted_authority: str, place: Place) -> bool:
    """Whether it is the connection's host; a port that is said must be its port too."""
    try:
        host, port = parse_authority(untrusted_authority)
    except HostError:
        return False
    return host.name == place.name and port in (None, place.port)


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
