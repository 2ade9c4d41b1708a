"""What happens to an accepted connection: decided by name and port, looked at, then inspected or passed through.

Refuses, with an entry on the log: addresses that no name stands for and no entry lists, a TLS server name that is
not the resolved one, a hidden one (Encrypted Client Hello), bytes that are neither TLS nor HTTP, and a client that
says nothing in time.

    await connect(session, sock, source, target)
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

from capsule.egress.dialer import AddressError
from capsule.egress.exchange import Exchange
from capsule.egress.hello import Hello, HelloError, looks_like_tls, read_hello
from capsule.egress.passthrough import pass_through
from capsule.egress.story import Place
from capsule.egress.verdict import Verdict

if TYPE_CHECKING:
    from capsule.egress.session import Session

FIRST_BYTES = 10.0
"""Seconds that a client may take for its first bytes, or its whole ClientHello."""
IDLE = 3600.0
"""Seconds that a passed connection may be silent."""
_READ = 1 << 16
_METHOD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-")


class Refused(Exception):  # noqa: N818 - a verdict on its way up, not a fault
    """The connection ends here."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


async def connect(
    session: Session, sock: socket.socket, source: tuple[str, int], target: tuple[str, int]
) -> None:
    """Carries one accepted connection to its end; the socket is closed."""
    program = session.flows.expect(source, target)
    name = session.name_of(target[0])
    place = Place(name or target[0], target[1], source, target, program, private=False)
    began = time.monotonic()
    try:
        try:
            await _carry(session, sock, place, known=name is not None)
        except Refused as refused:
            await asyncio.wait([program])
            session.refused_connection(place, refused.verdict, duration=time.monotonic() - began)
        except OSError as error:
            session.failed_connection(place, error.strerror or str(error))
    finally:
        program.cancel()
        sock.close()


async def _carry(session: Session, sock: socket.socket, place: Place, *, known: bool) -> None:
    verdict, entries = session.judge.connection(place.name, place.port)
    if not verdict.allowed:
        if not known:
            reason = f"{place.target[0]} stands for no name that was asked for, and no entry lists it"
            verdict = Verdict("block", "address", reason, allow=f"add {place.target[0]} to network.hosts")
        raise Refused(verdict)
    place.private = any(entry.private for entry in entries)
    if entries and entries[0].inspect == "never":
        await _pass(session, sock, place, first=b"")
        return
    first, place.hello = await _look(sock)
    if place.hello is not None:
        _check_name(place, place.hello)
        if not session.judge.inspects(place.name, place.port):
            await _pass(session, sock, place, first=first)
            return
    await _inspect(session, sock, place, first)


async def _look(sock: socket.socket) -> tuple[bytes, Hello | None]:
    """The first bytes: a whole ClientHello, or the beginning of an HTTP request."""
    loop = asyncio.get_running_loop()
    first = bytearray()
    try:
        async with asyncio.timeout(FIRST_BYTES):
            while True:
                data = await loop.sock_recv(sock, _READ)
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
                else:
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
    judged = session.judge.passing(session.tcp_event(place))
    session.note(judged.findings, None)
    verdict = judged.verdict
    if judged.asks is not None:
        verdict = await session.ask(session.tcp_event(place), judged)
    if not verdict.allowed:
        raise Refused(verdict)

    def spend(count: int) -> str | None:
        spent = session.meter.spend(count)
        return None if spent is None else spent.reason

    began = time.monotonic()
    try:
        outside, address = await session.dialer.dial(place.name, place.port, private=place.private)
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
