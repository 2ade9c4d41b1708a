"""What happens to an accepted connection: decided by name and port, looked at, then inspected, passed or tunnelled.

Refuses, with an entry on the log: addresses that no name stands for and no entry lists, a TLS server name that is
not the resolved one, a hidden one (Encrypted Client Hello), bytes that are neither TLS nor HTTP, and a client that
says nothing in time.

    await connect(session, sock, source, target)
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from typing import TYPE_CHECKING

from capsule.egress import tunnel
from capsule.egress.dialer import AddressError
from capsule.egress.exchange import Exchange
from capsule.egress.hello import Hello, HelloError, looks_like_tls, read_hello
from capsule.egress.passthrough import pass_through
from capsule.egress.story import Place
from capsule.egress.tunnel import WishError, read_wish
from capsule.egress.verdict import Verdict
from capsule.policy.grants import would_reach

if TYPE_CHECKING:
    from capsule.egress.session import Session

FIRST_BYTES = 10.0
"""Seconds that a client may take for its first bytes, or its whole ClientHello."""
IDLE = 3600.0
"""Seconds that a passed connection may be silent."""
_READ = 1 << 16
_METHOD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-")


class Refused(Exception):  # noqa: N818 - a verdict on its way up, not a fault
    """The connection ends here; `place` when it was for another one than was connected to."""

    def __init__(self, verdict: Verdict, place: Place | None = None) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict
        self.place = place


async def connect(
    session: Session,
    sock: socket.socket,
    source: tuple[str, int],
    target: tuple[str, int],
    *,
    messages: bool = True,
) -> None:
    """Carries one accepted connection to its end; the socket is closed."""
    program = session.flows.expect(source, target)
    name = session.name_of(target[0])
    place = Place(name or target[0], target[1], source, target, program, messages=messages)
    began = time.monotonic()
    try:
        try:
            await _carry(session, sock, place, known=name is not None)
        except Refused as refused:
            await asyncio.wait([program])
            place = refused.place or place
            session.refused_connection(place, refused.verdict, duration=time.monotonic() - began)
        except OSError as error:
            session.failed_connection(place, error.strerror or str(error))
    finally:
        program.cancel()
        sock.close()


async def _carry(
    session: Session, sock: socket.socket, place: Place, *, known: bool, sent: bytes = b""
) -> None:
    """Carries what is for `place`; `sent` came already, through a tunnel."""
    verdict, entries = session.judge.connection(place.name, place.port)
    if not verdict.allowed:
        if not known:
            reason = f"{place.target[0]} stands for no name that was asked for, and no entry lists it"
            verdict = Verdict("block", "address", reason, allow=would_reach(*place.target))
        raise Refused(verdict)
    if entries and entries[0].inspect == "never":
        await _pass(session, sock, place, first=sent)
        return
    first, place.hello = await _look(sock, sent)
    if place.hello is None and first.startswith(tunnel.START):
        await _tunnel(session, sock, place, first)
        return
    if place.hello is not None:
        _check_name(place, place.hello)
        # Requests of our own are on the log one by one: their messages are, too, and nobody else can tell them apart.
        if place.messages and not session.judge.inspects(place.name, place.port):
            await _pass(session, sock, place, first=first)
            return
    if session.judge.rules.problem is None:  # broken ones refuse the request, and can say why there
        await _ruled(session, place)
    await _inspect(session, sock, place, first)


async def _ruled(session: Session, place: Place) -> Verdict:
    """The rules on `tcp`, before anything is dialled or answered."""
    if session.judge.rules.asks_about("tcp"):
        await asyncio.wait([place.program])
    judged = session.judge.passing(session.tcp_event(place))
    session.note(judged.findings, None)
    verdict = judged.verdict
    if judged.asks is not None:
        verdict = await session.ask(session.tcp_event(place), judged)
    if not verdict.allowed:
        raise Refused(verdict)
    return verdict


async def _tunnel(session: Session, sock: socket.socket, outer: Place, first: bytes) -> None:
    """What a CONNECT asks for: the same way again, for the host that it names."""
    loop = asyncio.get_running_loop()
    try:
        if outer.via:
            raise WishError("a tunnel within a tunnel")
        wish = await read_wish(sock, first)
    except WishError as error:
        place = dataclasses.replace(outer, via=outer.via or f"{outer.name}:{outer.port}")
        verdict = Verdict("block", "protocol", str(error))
        await loop.sock_sendall(sock, tunnel.refusal(place, verdict, 400))
        raise Refused(verdict, place) from None
    place, verdict = tunnel.judge(session, outer, wish)
    if not verdict.allowed:
        await loop.sock_sendall(sock, tunnel.refusal(place, verdict, 403))
        raise Refused(verdict, place)
    try:
        await loop.sock_sendall(sock, tunnel.ESTABLISHED)
        await _carry(session, sock, place, known=True, sent=wish.rest)
    except Refused as refused:
        raise Refused(refused.verdict, refused.place or place) from None
    except OSError as error:
        session.failed_connection(place, error.strerror or str(error))


async def _look(sock: socket.socket, sent: bytes = b"") -> tuple[bytes, Hello | None]:
    """The first bytes: a whole ClientHello, or the beginning of an HTTP request; `sent` came already."""
    loop = asyncio.get_running_loop()
    first = bytearray()
    try:
        async with asyncio.timeout(FIRST_BYTES):
            while True:
                data, sent = sent or await loop.sock_recv(sock, _READ), b""
                if not data:
                    what = "before the first byte" if not first else "in its first bytes"
                    raise Refused(Verdict("block", "protocol", f"the program closed the connection {what}"))
                first += data
                if looks_like_tls(bytes(first[:3])):
                    hello = read_hello(bytes(first))
                    if hello is not None:
                        return bytes(first), hello
                elif first[0] not in _METHOD:
                    raise Refused(
                        Verdict(
                            "block",
                            "protocol",
                            "neither TLS nor HTTP came on an inspected port",
                            allow="give the host an entry of its own with `inspect: never`",
                        )
                    )
                elif len(first) >= len(tunnel.START) or not tunnel.START.startswith(first):
                    return bytes(first), None
    except TimeoutError:
        raise Refused(
            Verdict(
                "block",
                "protocol",
                f"nothing that could be looked at came within {FIRST_BYTES:.0f} s",
                allow="a protocol in which the server speaks first needs `inspect: never`",
            )
        ) from None
    except HelloError as error:
        raise Refused(Verdict("block", "protocol", str(error))) from None


def _check_name(place: Place, hello: Hello) -> None:
    if hello.encrypted and hello.name != place.name:
        raise Refused(Verdict("block", "name", "the TLS server name is encrypted"))
    literal = place.name == place.target[0]
    if hello.name is None and literal:
        return
    if hello.name != place.name:
        shown = "no name" if hello.name is None else hello.name
        raise Refused(
            Verdict(
                "block",
                "name",
                f"TLS asks for {shown}, the connection is to {place.name}",
                allow="use the name that was resolved",
            )
        )


async def _inspect(session: Session, sock: socket.socket, place: Place, first: bytes) -> None:
    over = asyncio.get_running_loop().create_future()

    def ended() -> None:
        if not over.done():
            over.set_result(None)

    exchange = Exchange(session, place, ended)
    session.drivers.add(exchange)
    try:
        await exchange.begin(sock.dup(), first)
        sock.close()
        await over
    finally:
        session.drivers.discard(exchange)
        exchange.driver.abort("the session ended")
        exchange.over()


async def _pass(session: Session, sock: socket.socket, place: Place, *, first: bytes) -> None:
    """Splices, after the rules on `tcp` and after the name was checked as far as it can be seen."""
    verdict = await _ruled(session, place)

    def spend(count: int) -> tuple[int, str | None]:
        fits, spent = session.meter.spend_part(count)
        return fits, None if spent is None else spent.reason

    began = time.monotonic()
    private = session.judge.private(place.name, place.port)
    try:
        outside, address = await session.dialer.dial(place.name, place.port, private=private)
    except AddressError as error:
        raise Refused(Verdict("block", "address", str(error))) from None
    sent = received = 0
    problem: str | None = None
    with outside:
        try:
            sent, received, problem = await pass_through(
                sock, outside, first=first, idle=IDLE, spend=spend if session.meter.counts_bytes else None
            )
        finally:
            session.passed_connection(
                place,
                verdict,
                time.monotonic() - began,
                address=address,
                bytes_out=sent,
                bytes_in=received,
                error=problem,
            )
