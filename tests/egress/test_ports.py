"""A session whose connections somebody else opens, and whose programs connect by hand."""

from __future__ import annotations

import asyncio
import datetime
import socket
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from capsule.egress.certificates import Issuer, SessionIssuer, make_authority
from capsule.egress.dialer import AddressError
from capsule.egress.frames import Budget, Egress, Host
from capsule.egress.frames import Session as SessionFrame
from capsule.egress.session import Session

pytestmark = pytest.mark.asyncio
NOW = datetime.datetime.now(datetime.UTC)


class Outside:
    """Both ports of a session, recorded; what is dialled is the other end of a pair."""

    crowded = False

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.dialled: list[tuple[str, int]] = []
        self.far: socket.socket | None = None

    def send(self, message: Any) -> None:
        self.sent.append(message)

    async def room(self) -> None:
        return

    async def dial(self, host: str, port: int, *, private: bool) -> tuple[socket.socket, str]:
        assert not private
        self.dialled.append((host, port))
        if port == 81:
            raise AddressError("it leads into the private")
        ours, self.far = socket.socketpair()
        ours.setblocking(False)
        self.far.settimeout(5)
        return ours, "192.0.2.1:80"


def session(outside: Outside) -> Session:
    key = ec.generate_private_key(ec.SECP256R1())
    minter = SessionIssuer(
        Issuer(make_authority(key, NOW, 1), key), hosts=None, clock=lambda: NOW,
        new_key=lambda: ec.generate_private_key(ec.SECP256R1()), serial=x509.random_serial_number,
    )  # fmt: skip
    hosts = (Host("a.example", (80, 81), None, None, "never", private=False),)
    plan = Egress("deny", hosts, Budget(), (), (), None, (), (), ())
    frame = SessionFrame(1, "r", ("true",), "/", None, plan, (), {}, (), interactive=False)
    return Session(frame, None, outside, minter, lambda: None, dialer=outside)


def connected(made: Session, port: int) -> socket.socket:
    address = socket.inet_ntoa(made.pool.address("a.example"))
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    made.connection(theirs, ("inside", 1), (address, port))
    return ours


async def test_connections_are_asked_for_and_carried() -> None:
    outside = Outside()
    made = session(outside)
    made.start()
    ours = connected(made, 80)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(ours, b"ping")
    async with asyncio.timeout(5):
        while outside.far is None:
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(outside.far.recv, 10) == b"ping"
        outside.far.sendall(b"pong")
        assert await loop.sock_recv(ours, 10) == b"pong"
    assert outside.dialled == [("a.example", 80)]
    outside.far.close()
    ours.close()
    made.close()
    await made.over()


async def test_one_that_may_not_be_opened_is_refused_and_recorded() -> None:
    outside = Outside()
    made = session(outside)
    made.start()
    ours = connected(made, 81)
    async with asyncio.timeout(5):
        assert await asyncio.get_running_loop().sock_recv(ours, 10) == b""
    ours.close()
    [record] = [message["entry"] for message in outside.sent]
    assert record["decision"]["by"] == "address"
    made.close()
