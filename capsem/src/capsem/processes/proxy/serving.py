"""The proxy's life: begins with what the monitor hands over, ends when the monitor or the guest's port does.

Refuses to serve before it knows its session; after a guest's fault it tells the monitor why and ends.

    await serve(socket.socket(fileno=0))
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import time
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import capsule.egress.lean
from capsem.errors import WireError
from capsem.host.channel import Channel
from capsem.host.handover import Handover
from capsem.host.jobs import GuestStream
from capsem.processes.proxy.carrying import Carrying
from capsem.processes.proxy.guest import GuestSession
from capsem.processes.proxy.monitor import MonitorLink
from capsem.processes.proxy.reaching import Reaching
from capsem.processes.proxy.relaying import Relay, declared
from capsem.wire.frame import Message
from capsem.wire.guest import MCP, NETWORK
from capsem.wire.proxy import (
    Answer,
    Begin,
    Dialled,
    Lost,
    Noted,
    Ready,
    Secret,
    Served,
    Server,
    Signer,
    decode_beginning,
    decode_monitor,
    encode,
)
from capsule.egress import frames
from capsule.egress.certificates import Issuer, SessionIssuer

FAREWELL = 1.0
"""Seconds that the last records may take to leave."""
_ = capsule.egress.lean


class _Proxy:
    """What is known of the session so far."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.begun: asyncio.Future[tuple[GuestSession, dict[int, socket.socket]]] = (
            asyncio.get_running_loop().create_future()
        )
        self.servers: tuple[Server, ...] = ()
        self.authority = ""
        self.session: GuestSession | None = None
        self.handover: Handover
        self.monitor: MonitorLink

    def heard(self, untrusted: Message) -> None:
        said = decode_monitor(untrusted)
        match said:
            case Begin() if self.session is None:
                self._begin()
            case Dialled():
                self.monitor.dialled(said)
            case Served():
                self.monitor.served(said)
            case Noted():
                self.monitor.marked(said)
            case Answer() if self.session is not None:
                self.session.frame_came(frames.Answer(said.id, said.allow, said.scope, said.for_ms))
            case Secret() if self.session is not None:
                self.session.frame_came(frames.Secret(said.name, said.value, said.expires))
            case _:
                raise WireError(f"{type(said).__name__} out of its place", next_step="report this")

    def _begin(self) -> None:
        ports = {number: socket.socket(fileno=self.handover.take()) for number in (NETWORK, MCP)}
        beginning = decode_beginning(self.monitor.take_file())
        frame = msgspec.convert(beginning.session, frames.Session)
        self.session = GuestSession(frame, self.monitor, _minter(beginning.signer), own=beginning.names)
        self.session.judge.also_known = declared(beginning.servers)
        self.servers, self.authority = beginning.servers, beginning.signer.certificate
        self.begun.set_result((self.session, ports))

    def relay(self, session: GuestSession) -> Relay:
        """What carries the guest's MCP."""
        return Relay(session, self.monitor, self.servers, Reaching(session, self.authority))

    def ended(self, reason: str) -> None:
        del reason
        self.over.set()
        if not self.begun.done():
            self.begun.cancel()


def _minter(signer: Signer) -> SessionIssuer:
    key = serialization.load_pem_private_key(signer.key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return SessionIssuer(
        Issuer(x509.load_pem_x509_certificate(signer.certificate.encode()), key),
        hosts=signer.hosts,
        clock=lambda: datetime.datetime.now(datetime.UTC),
        new_key=lambda: ec.generate_private_key(ec.SECP256R1()),
        serial=x509.random_serial_number,
    )


async def serve(sock: socket.socket) -> None:
    """Until one of both sides is gone."""
    proxy = _Proxy()
    proxy.handover = Handover(sock, on_message=proxy.heard, on_end=proxy.ended)
    proxy.monitor = MonitorLink(proxy.handover)
    proxy.handover.start()
    try:
        session, ports = await proxy.begun
    except asyncio.CancelledError:
        return
    async with Channel(ports) as channel:
        carrying = Carrying(session, proxy.monitor, proxy.relay(session))
        proxy.handover.send(encode(_ready(session.start())))
        over = asyncio.create_task(proxy.over.wait())
        opened: asyncio.Task[GuestStream] | None = None
        ticked = time.monotonic()
        while not proxy.over.is_set() and channel.error is None:
            if opened is None:
                opened = asyncio.create_task(channel.opened.get())
            await asyncio.wait([over, opened], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            if opened.done():
                carrying.take(opened.result())
                opened = None
                await session.recorder.room()
            if (moment := time.monotonic()) - ticked >= 1.0:
                ticked = moment
                session.tick(moment)
                carrying.tick()
        for task in (over, opened):
            if task is not None:
                task.cancel()
        carrying.tick()
        carrying.close()
        session.close()
        await session.over()
        if channel.error is not None and not proxy.over.is_set():
            proxy.handover.send(encode(Lost(channel.error.message[:4096])))
            await asyncio.wait([asyncio.create_task(proxy.over.wait())], timeout=FAREWELL)
    proxy.handover.close("the session is over")


def _ready(told: dict[str, Any]) -> Ready:
    return Ready(told["rules"], tuple(told["problems"]))
