"""The daemon's socket: sessions of supervisors and the HTTP seam of asks, told apart by the first byte.

Refuses peers of another user (`SO_PEERCRED`, unix(7)) and connections that say nothing. Without a session for
`idle` seconds it ends.

    await Server(listening, idle=300.0).serve()
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import resource
import socket
import struct
import time
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from capsule.egress.asks import Answer, Outcome
from capsule.egress.certificates import Issuer, SessionIssuer
from capsule.egress.channel import Channel
from capsule.egress.encryption import Minter
from capsule.egress.frames import Authority, Frame, FrameError
from capsule.egress.frames import Session as SessionFrame
from capsule.egress.leftovers import Leftovers
from capsule.egress.seam import serve
from capsule.egress.session import Session

logger = logging.getLogger(__name__)

FIRST_BYTE = 10.0
FAREWELL = 1.0
"""Seconds that the last entries of a run may take to be read."""
CONNECTIONS = 256
_UCRED = struct.Struct("=iII")
_FILE_LIMIT = 1 << 16


class Server:
    """Everything of one user's egress.

    Attributes:
        sessions: the runs at this moment, by run.
        idle: the seconds without anybody connected after which it ends.
    """

    def __init__(self, listening: socket.socket, *, idle: float) -> None:
        self._listening = listening
        self._listening.setblocking(False)
        self.idle = idle
        self._authority: Issuer | None = None
        self.sessions: dict[str, Session] = {}
        self._peers: set[Peer] = set()
        self._last = time.monotonic()
        self._waiting: list[asyncio.Future[None]] = []
        self._leftovers = Leftovers()

    async def serve(self) -> None:
        """Until nothing has been asked for `idle` seconds."""
        _raise_file_limit()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listening.fileno(), self._accept)
        try:
            while self._peers or time.monotonic() - self._last < self.idle:
                await self._turn()
            # Who connects from here on is refused, and starts another; who came before that is served.
            loop.remove_reader(self._listening.fileno())
            self._listening.shutdown(socket.SHUT_RD)
            while self._accept():
                pass
            while self._peers:
                await self._turn()
        finally:
            loop.remove_reader(self._listening.fileno())
            self._listening.close()
            for peer in list(self._peers):
                peer.end("egress ends")

    async def _turn(self) -> None:
        await asyncio.sleep(min(1.0, self.idle / 4))
        for session in list(self.sessions.values()):
            session.tick(time.monotonic())
        self._leftovers.clear(time.monotonic())

    def _accept(self) -> bool:
        """Takes one connection, when there is one."""
        try:
            sock, _ = self._listening.accept()
        except OSError:
            return False
        _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != os.getuid() or len(self._peers) >= CONNECTIONS:
            sock.close()
            return True
        self._last = time.monotonic()
        peer = Peer(self, sock)
        self._peers.add(peer)
        peer.start()
        return True

    def left(self, peer: Peer) -> None:
        """A peer is gone."""
        self._peers.discard(peer)
        self._last = time.monotonic()
        self._leftovers.made(self._last)

    def minter(self, frame: SessionFrame) -> Minter | None:
        """A new intermediate for a session, when the installation's authority is known."""
        if self._authority is None:
            return None
        hosts = [entry.host for entry in frame.egress.hosts] if frame.egress.unlisted == "deny" else None
        return SessionIssuer(
            self._authority,
            hosts=hosts,
            clock=lambda: datetime.datetime.now(datetime.UTC),
            new_key=lambda: ec.generate_private_key(ec.SECP256R1()),
            serial=x509.random_serial_number,
        )

    # What the seam of asks sees

    def asks(self) -> list[dict[str, Any]]:
        """Every ask that waits, of every run, the oldest first."""
        found = [ask for session in self.sessions.values() for ask in session.asking.register.waiting()]
        return sorted(found, key=lambda ask: int(ask["at"]))

    def answer(self, ask_id: str, answer: Answer) -> Outcome | Literal["gone", "answered"]:
        """Hands an answer to the run that asked."""
        ended: Outcome | Literal["gone", "answered"] = "gone"
        for session in self.sessions.values():
            ended = session.asking.answer(ask_id, answer, by="capsule answer")
            if ended != "gone":
                break
        return ended

    def describe(self) -> list[dict[str, Any]]:
        """The runs at this moment."""
        return [session.describe() for session in self.sessions.values()]

    def changed(self) -> None:
        """Something was asked or answered."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def change(self, seconds: float) -> None:
        """Waits for the next change, at most so long."""
        if seconds > 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await asyncio.wait([future], timeout=seconds)

    def take_authority(self, descriptors: list[int]) -> None:
        """The key and the certificate, in this order."""
        try:
            if len(descriptors) != 2:
                raise FrameError(
                    f"{len(descriptors)} descriptors for an authority; key and certificate are two"
                )
            key, certificate = (_read(number) for number in descriptors)
        finally:
            for number in descriptors:
                os.close(number)
        try:
            loaded = serialization.load_pem_private_key(key, password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise ValueError("its key is not of an elliptic curve")
            self._authority = Issuer(x509.load_pem_x509_certificate(certificate), loaded)
        except (ValueError, TypeError) as error:
            raise FrameError(f"not an authority: {error}") from None


class Peer:
    """Who connected: a supervisor until its run is over, or one HTTP request."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._task: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self._session: Session | None = None
        self._waiting: tuple[SessionFrame, list[int]] | None = None
        self._ended = False

    def start(self) -> None:
        """Waits for the first byte."""
        self._sock.setblocking(False)
        self._task = asyncio.get_running_loop().create_task(self._begin())

    async def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def said() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(self._sock.fileno(), said)
        try:
            async with asyncio.timeout(FIRST_BYTE):
                await ready
        except TimeoutError:
            self.end("nothing was said")
            return
        if self._ended:
            return
        loop.remove_reader(self._sock.fileno())
        try:
            first = self._sock.recv(1, socket.MSG_PEEK)
        except OSError:
            first = b""
        if not first:
            self.end("nothing was said")
            return
        if first.isalpha():
            try:
                await serve(self._server, self._sock)
            finally:
                self.end("answered")
            return
        self._channel = Channel(self._sock, on_frame=self._frame, on_end=self.end, on_last=self._last)
        self._channel.start()

    def _frame(self, frame: Frame, descriptors: list[int]) -> None:
        if isinstance(frame, SessionFrame) and self._session is None and self._waiting is None:
            self._waiting = (frame, descriptors)
            self._open()
            return
        if isinstance(frame, Authority) and self._waiting is not None:
            self._server.take_authority(descriptors)
            self._open()
            return
        for number in descriptors:
            os.close(number)
        if self._session is None or descriptors:
            raise FrameError(f"{type(frame).__name__.lower()} does not belong here")
        self._session.frame_came(frame)

    def _open(self) -> None:
        assert self._waiting is not None
        assert self._channel is not None
        minter = self._server.minter(self._waiting[0])
        if minter is None:
            self._channel.send({"type": "need_authority"})
            return
        frame, descriptors = self._waiting
        self._waiting = None
        if frame.run in self._server.sessions:
            for number in descriptors:
                os.close(number)
            raise FrameError(f"run {frame.run} has a session already")
        self._session = Session(frame, descriptors, self._channel, minter, self._server.changed)
        self._server.sessions[frame.run] = self._session
        self._channel.send({"type": "ready", **self._session.start()})

    def _last(self) -> None:
        """The run is over: nothing goes on, and what is still to be recorded is told."""
        self._task = asyncio.get_running_loop().create_task(self._part())

    async def _part(self) -> None:
        if self._session is not None and self._channel is not None:
            self._session.close()
            await self._session.over()
            self._channel.send({"type": "over"})
            await self._channel.drained(FAREWELL)
        self.end("the run is over")

    def end(self, reason: str) -> None:
        """Once: the session and its socket end."""
        if self._ended:
            return
        self._ended = True
        if self._channel is not None:
            self._channel.close(reason)
        elif self._sock.fileno() >= 0:
            # Before it is closed: the loop would take the next socket of its number for one that it knows already.
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
        if self._waiting is not None:
            for number in self._waiting[1]:
                os.close(number)
            self._waiting = None
        if self._session is not None:
            session, self._session = self._session, None
            self._server.sessions.pop(session.run, None)
            session.close()
            logger.info("session %s: %s", session.run, reason)
        elif self._channel is not None:
            logger.warning("a connection without a session: %s", reason)
        self._server.left(self)


def _read(number: int) -> bytes:
    """A small file by its descriptor, whose offset others may share."""
    data = os.pread(number, 1 << 16, 0)
    if not data:
        raise FrameError("the authority's key or certificate is empty")
    return data


def _raise_file_limit() -> None:
    """A connection that is passed through has six descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILE_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _FILE_LIMIT)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> int:
    """The daemon's life; the exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        listening = socket.socket(fileno=os.dup(0))
        if listening.family != socket.AF_UNIX or not listening.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            raise OSError("it is something else")
        idle = float(os.environ.get("CAPSULE_EGRESS_IDLE", "300"))
    except (OSError, ValueError) as error:
        logger.error("descriptor 0 must be a listening Unix socket, CAPSULE_EGRESS_IDLE seconds: %s", error)
        return 2
    Leftovers.loaded()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Server(listening, idle=idle).serve())
    return 0
