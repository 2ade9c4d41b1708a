"""CONNECT as the first request of a connection: what a program with proxy variables asks for.

A tunnel is a direct connection to the host and port that it names: the same decision before it is opened, and the same
look at what comes through it, server name, inspection and all. This process is the proxy, whatever host the program
believes it speaks to; nothing is ever passed on around the look. Refuses heads that are not exactly CONNECT of RFC 9110
(9.3.6), two names in one head, a body, the sandbox's own loopback, and a tunnel within a tunnel.

    wish = await read_wish(sock, first)     # host="a.example", port=443, what came behind
    place, verdict = judge(session, outer, wish)
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11

from capsule.egress.pool import PoolFullError
from capsule.egress.story import Place
from capsule.egress.verdict import BLOCKED, Verdict, answer
from capsule.policy.addresses import HostError, parse_authority

if TYPE_CHECKING:
    from capsule.egress.session import Session

START = b"CONNECT "
HEAD = 10.0
"""Seconds that the head may take."""
HEAD_LIMIT = 64 << 10
"""Bytes of the head."""
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_READ = 1 << 14


class WishError(Exception):
    """What came is no CONNECT that could be meant in one way only; the text says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a tunnel is to lead.

    Attributes:
        host: a name or an IPv4 address, in its one spelling.
        literal: the host is an address.
        port: as it was asked for.
        rest: what the program sent behind the head, before it was answered.
    """

    host: str
    literal: bool
    port: int
    rest: bytes


async def read_wish(sock: socket.socket, untrusted_first: bytes) -> Wish:
    """The head of a CONNECT, which begins with `untrusted_first`.

    Raises:
        WishError: it is not one, too long, late or broken off.
    """
    loop = asyncio.get_running_loop()
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
    data = untrusted_first
    try:
        async with asyncio.timeout(HEAD):
            while True:
                reader.receive_data(data)
                event = reader.next_event()
                if isinstance(event, h11.Request):
                    return _wish(event, reader.trailing_data[0])
                if event is not h11.NEED_DATA:
                    raise WishError("the program closed the connection within the head of CONNECT")
                data = await loop.sock_recv(sock, _READ)
    except TimeoutError:
        raise WishError(f"the head of CONNECT did not end within {HEAD:.0f} s") from None
    except h11.RemoteProtocolError as error:
        if error.error_status_hint == 431:
            raise WishError(f"the head of CONNECT is over {HEAD_LIMIT} bytes") from None
        if not data:
            raise WishError("the program closed the connection within the head of CONNECT") from None
        raise WishError(f"not a request of HTTP/1: {error}") from None


def _wish(request: h11.Request, rest: bytes) -> Wish:
    try:
        host, port = parse_authority(request.target.decode("latin-1"))
        said = [
            parse_authority(value.decode("latin-1")) for name, value in request.headers if name == b"host"
        ]
    except HostError as error:
        raise WishError(f"CONNECT names no host that could be reached: {error.what}") from None
    if port is None:
        raise WishError("CONNECT names no port")
    if any(other.name != host.name or its not in (None, port) for other, its in said):
        raise WishError("CONNECT names two hosts: its target and its Host field differ")
    if any(name in (b"content-length", b"transfer-encoding") for name, _ in request.headers):
        raise WishError("CONNECT with a body")
    return Wish(host.name, host.address is not None, port, rest)


def judge(session: Session, outer: Place, wish: Wish) -> tuple[Place, Verdict]:
    """Whether a direct connection could have been made: the name asked for, the port listened on, both granted."""
    name = wish.host
    via = f"{outer.name}:{outer.port}"
    place = Place(name, wish.port, outer.source, outer.target, outer.program, via=via)
    if name == "localhost" or name.endswith(".localhost"):
        reason = f"{name} is the sandbox's own loopback"
        return place, Verdict("block", "address", reason, allow="connect to it directly")
    if not wish.literal and not (named := session.judge.name(name, "A", "tcp")).allowed:
        return place, named
    try:
        place.target = (name if wish.literal else session.inside(name), wish.port)
    except PoolFullError as error:
        return place, Verdict("block", "name", str(error))
    place.name = session.name_of(place.target[0]) or name
    verdict, _ = session.judge.connection(place.name, place.port)
    if verdict.allowed and place.port not in session.frame.ports:
        verdict = Verdict(
            "block", "grant", f"no host entry has port {place.port}", allow="add one that has it"
        )
    return place, verdict


def refusal(place: Place, verdict: Verdict, status: int) -> bytes:
    """The answer to a CONNECT that is not carried."""
    body, media = answer(verdict, method="CONNECT", url=f"{place.name}:{place.port}", json=False)
    reason = {400: "Bad Request", 403: "Forbidden"}[status]
    head = f"HTTP/1.1 {status} {reason}\r\nconnection: close\r\ncontent-type: {media}\r\n"
    head += f"{BLOCKED}: {verdict.by}\r\ncache-control: no-store\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body
