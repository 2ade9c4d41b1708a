"""Requests of our own over a connection that a session carries: HTTP/1.1, one after another, with bounds.

The other end of the socket is `Session.connection`, which decides, records, dials and puts secrets in: this side has
none of that, and reads what comes back as a stranger's. Refuses heads over `HEAD` bytes; follows no redirect; keeps no
cookie; takes off no content coding.

    caller = Caller("mcp.example", 443, connect=lambda: sock, trust=trusting([pem]))
    async with caller.asked("POST", "/mcp", {"content-type": "application/json"}, b"{}") as reply:
        reply.status, reply.fields, await reply.whole(1 << 20)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import h11

from capsule.egress.encryption import host_authorities

HEAD = 64 << 10
"""Bytes of an answer's head."""
HANDSHAKE = 20.0
"""Seconds."""
KEPT = 2
"""Connections that wait for the next request."""
FRESH = 15.0
"""Seconds that they do."""
_READ = 1 << 16


class CallError(Exception):
    """There is no answer, or none that can be read; the text says why."""


def _broken(error: OSError) -> CallError:
    return CallError(f"the connection broke: {error.strerror or type(error).__name__}")


def trusting(authorities: Sequence[str]) -> ssl.SSLContext:
    """What a connection inside is verified against: the session's authority, the policy's, and the host's own.

    Args:
        authorities: PEM texts.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if (bundle := host_authorities()) is not None:
        context.load_verify_locations(bundle)  # a connection that is passed through shows the upstream's own
    for pem in authorities:
        context.load_verify_locations(cadata=pem)
    return context


class _Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.state = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD)
        self.since = 0.0

    async def next(self) -> h11.Event:
        """What comes next of the answer.

        Raises:
            CallError: it breaks off, or is no answer.
        """
        try:
            while True:
                event = self.state.next_event()
                if event is h11.NEED_DATA:
                    self.state.receive_data(await self.reader.read(_READ))
                elif isinstance(event, h11.Response | h11.Data | h11.EndOfMessage):
                    return event
                elif not isinstance(event, h11.InformationalResponse):
                    raise CallError("the connection ended before its answer did")
        except h11.RemoteProtocolError as error:
            raise CallError(f"an answer that is not HTTP: {error}") from None
        except OSError as error:
            raise _broken(error) from None

    async def say(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """A request.

        Raises:
            CallError: it is none, or the connection breaks off.
        """
        try:
            said = self.state.send(h11.Request(method=method, target=target, headers=headers)) or b""
            said += self.state.send(h11.Data(body)) or b""
            said += self.state.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise CallError(f"a request that is not HTTP: {error}") from None
        try:
            self.writer.write(said)
            await self.writer.drain()
        except OSError as error:
            raise _broken(error) from None

    @property
    def usable(self) -> bool:
        """Whether another request may follow."""
        return not self.reader.at_eof() and not self.writer.is_closing()


class Reply:
    """An answer, of which the body is still to come.

    Attributes:
        status: its code.
        fields: its headers, lower case; of several with one name the first.
    """

    def __init__(self, wire: _Wire, response: h11.Response) -> None:
        self._wire = wire
        self.status = response.status_code
        self.fields: dict[str, str] = {}
        for name, value in response.headers:
            self.fields.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        self.over = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            CallError: it breaks off.
        """
        while not self.over:
            event = await self._wire.next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                self.over = True

    async def whole(self, most: int) -> bytes:
        """The body.

        Raises:
            CallError: it breaks off, or has more than `most` bytes.
        """
        held = bytearray()
        async for piece in self.pieces():
            held += piece
            if len(held) > most:
                raise CallError(f"an answer of more than {most} bytes")
        return bytes(held)


class Caller:
    """What asks one host.

    Args:
        host: its name, for TLS and the Host field.
        port: of it.
        connect: a connected socket whose other end the session carries; may raise what it refuses.
        trust: None: without TLS.
    """

    def __init__(
        self, host: str, port: int, *, connect: Callable[[], socket.socket], trust: ssl.SSLContext | None
    ) -> None:
        self._host = host
        self._authority = host if port == (80 if trust is None else 443) else f"{host}:{port}"
        self._connect = connect
        self._trust = trust
        self._kept: list[_Wire] = []
        self._open: set[_Wire] = set()

    @contextlib.asynccontextmanager
    async def asked(
        self, method: str, target: str, fields: Mapping[str, str], body: bytes = b""
    ) -> AsyncIterator[Reply]:
        """The answer to one request; its connection serves the next one when the body was read to its end.

        Raises:
            CallError: there is none.
        """
        wire = self._taken() or await self._opened()
        try:
            headers = [("host", self._authority), *fields.items()]
            if body or method == "POST":
                headers.append(("content-length", str(len(body))))
            await wire.say(method, target, headers, body)
            response = await wire.next()
            assert isinstance(response, h11.Response)
            reply = Reply(wire, response)
            yield reply
            if reply.over and wire.state.our_state is h11.DONE and wire.state.their_state is h11.DONE:
                self._keep(wire)
        finally:
            if wire not in self._kept:
                self._end(wire)

    def _taken(self) -> _Wire | None:
        while self._kept:
            wire = self._kept.pop()
            if wire.usable and time.monotonic() - wire.since < FRESH:
                return wire
            self._end(wire)
        return None

    def _keep(self, wire: _Wire) -> None:
        if len(self._kept) < KEPT and wire.usable:
            wire.state.start_next_cycle()
            wire.since = time.monotonic()
            self._kept.append(wire)

    async def _opened(self) -> _Wire:
        sock = self._connect()
        sock.setblocking(False)
        try:
            named = None if self._trust is None else self._host
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=self._trust, server_hostname=named, limit=_READ,
                ssl_handshake_timeout=None if named is None else HANDSHAKE,
            )  # fmt: skip
        except ssl.SSLError as error:
            raise CallError(f"TLS failed: {error.reason or error}") from None
        except OSError as error:
            raise CallError(f"the connection was not carried: {error.strerror or error}") from None
        except BaseException:
            sock.close()
            raise
        wire = _Wire(reader, writer)
        self._open.add(wire)
        return wire

    def _end(self, wire: _Wire) -> None:
        self._open.discard(wire)
        wire.writer.transport.abort()

    def close(self) -> None:
        """Ends every connection."""
        for wire in list(self._open):
            self._end(wire)
        self._kept.clear()
