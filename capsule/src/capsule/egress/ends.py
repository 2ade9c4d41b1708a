"""The ends of an inspected connection: HTTP/1 and HTTP/2, toward the program and toward the upstream.

Needs Python 3.12 and mitmproxy 12 (its internals). Heads are bounded; bodies of a known length are not copied; trailers
of HTTP/1 are dropped; 1xx answers do not end an exchange; HTTP/2 flow control follows the slower side. Refuses what is
no HTTP, CONNECT within HTTP/2, and floods of frames that carry nothing.

    layers_http.Http1Server = Http1Server        # `layers` does
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
import h11
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http import status_codes
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _http1, _http2, _http_h2
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import RequestHeaders

from capsule.egress.flooding import Flooding
from capsule.egress.interception import Driver, Settle
from capsule.egress.joining import joined
from capsule.egress.verdict import BLOCKED

HEAD_LIMIT = 128 << 10
"""Bytes of a request's or response's head, of a chunk's head, and of what was sent before its turn."""
WINDOW = 2 << 20
"""HTTP/2 flow control: what one stream may send ahead."""
CONNECTION_WINDOW = 16 << 20
NO_TUNNEL = "CONNECT is carried as the first request of a connection without TLS, and here it is not"

Commands = layer.CommandGenerator[None]


def driver_of(context: Context) -> Driver:
    """The driver that a layer runs in."""
    driver: Driver = context.options.driver
    return driver


class _Plain:
    """A body's reader without its trailers, which HTTP/1 may drop (RFC 9110 §6.5.1); chunks that came leave it as one.

    Each piece that goes on costs the same work, and a program may send chunks of one byte.
    """

    def __init__(self, reader: Any) -> None:
        self.inner = reader
        self._next: Any = None

    def __call__(self, buffer: Any) -> Any:
        event, self._next = self._next or self.inner(buffer), None
        if isinstance(event, h11.RemoteProtocolError):
            raise event
        if isinstance(event, h11.Data) and isinstance(self.inner, h11._readers.ChunkedReader):
            parts = [event.data]
            try:
                while isinstance(following := self.inner(buffer), h11.Data):
                    parts.append(following.data)
                self._next = following
            except h11.RemoteProtocolError as error:  # what came before it goes on first
                self._next = error
            if len(parts) > 1:
                event = h11.Data(data=b"".join(parts))
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event

    def read_eof(self) -> Any:
        return self.inner.read_eof()


class _Bounded(_http1.Http1Connection):
    """An HTTP/1 end that keeps no more than `HEAD_LIMIT`."""

    def _set_reader(self, reader: Any) -> None:
        self._reader = _Plain(reader)

    def __init__(self, context: Context, *further: Any) -> None:
        super().__init__(context, *further)
        driver_of(context).pressure.ends[self.conn] = self

    body_reader = property(lambda self: self._reader, _set_reader)

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.DataReceived) and (reader := self._straight(len(event.data))) is not None:
            reader._remaining -= len(event.data)
            assert self.stream_id is not None
            yield ReceiveHttp(self.ReceiveData(self.stream_id, event.data))
            if not reader._remaining:
                yield from self.state(replace(event, data=b""))
            return
        yield from super()._handle_event(event)
        driver = driver_of(self.context)
        early = driver.pressure.early
        if len(self.buf) <= HEAD_LIMIT:
            early.discard(self.conn)
        elif self.state == self.wait:
            early.add(self.conn)  # sent before its turn: it waits in the socket
        elif self.conn.state is not ConnectionState.CLOSED:
            self.buf.maybe_extract_at_most(len(self.buf))
            yield from self.too_long()
        if self.buf and self.state == self.read_headers:
            driver.heads.setdefault(self.conn, time.monotonic())
        else:
            driver.heads.pop(self.conn, None)

    def _straight(self, count: int) -> Any:
        """The reader of a body whose next bytes need not be kept first; None: they are not of that kind."""
        if self.state != self.read_body or self.buf or not count:
            return None
        reader = self.body_reader.inner
        counts = isinstance(reader, h11._readers.ContentLengthReader)
        return reader if counts and reader._remaining >= count else None

    def too_long(self) -> Commands:
        """A head without an end."""
        yield commands.CloseConnection(self.conn)
        if self.stream_id is not None and self.request is not None:
            message = f"a head of more than {HEAD_LIMIT} bytes"
            yield ReceiveHttp(
                self.ReceiveProtocolError(self.stream_id, message, self.ReceiveProtocolError.code)
            )
        self.state = self.done


@dataclass
class MalformedHook(commands.StartHook):
    """What came is not a request; it was answered, or the connection ended."""

    blocking = False
    context: Context
    reason: str


class Http1Server(_Bounded, _http1.Http1Server):
    """HTTP/1 toward the program."""

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        """A head that cannot be parsed is reported too."""
        start = bytes(self.buf)[:80]
        yield from super().read_headers(event)
        if self.state == self.done and self.request is None:
            yield MalformedHook(self.context, f"not a request of HTTP/1: {start!r}")

    def wait(self, event: events.Event) -> Commands:
        """A program that has said all may still listen (RFC 9112 §9.6)."""
        if isinstance(event, events.ConnectionClosed) and event.connection.state & ConnectionState.CAN_WRITE:
            self.said_all = True
            return
        yield from super().wait(event)

    said_all = False

    def mark_done(self, *, request: bool = False, response: bool = False) -> Commands:
        """The last answer ends a connection that is half closed."""
        yield from super().mark_done(request=request, response=response)
        if self.said_all and self.state == self.read_headers:
            yield commands.CloseConnection(self.conn)
            self.state = self.done

    def too_long(self) -> Commands:
        """Says so first."""
        if self.state == self.read_headers:
            body = b"capsule: the request's head is over %d bytes\n" % HEAD_LIMIT
            head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            yield commands.SendData(self.conn, head % len(body) + body)
            yield MalformedHook(self.context, f"a head of more than {HEAD_LIMIT} bytes")
        yield from super().too_long()


class Http1Client(_Bounded, _http1.Http1Client):
    """HTTP/1 toward the upstream."""

    def send(self, event: Any) -> Commands:
        """A body of HTTP/2 without a length is sent in chunks: without either it would be read as further requests."""
        unframed = isinstance(event, RequestHeaders) and not event.end_stream and event.request.is_http2
        if unframed and "content-length" not in event.request.headers:
            request = event.request.copy()
            request.headers["transfer-encoding"] = "chunked"
            event = replace(event, request=request)
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        """Interim answers (1xx but 101) are passed over: RFC 9110 §15.2."""
        while self.request is not None and len(self.buf) >= 12:
            start = bytes(self.buf)[:12]
            if not (start.startswith(b"HTTP/1.") and start[9:10] == b"1") or start[9:12] == b"101":
                break
            if self.buf.maybe_extract_lines() is None:
                return
        if isinstance(event, events.DataReceived) and self.request is not None and not self.buf:
            return
        yield from super().read_headers(event)


class _Windowed(_http_h2.BufferedH2Connection):
    """HTTP/2 state with windows that bound what is kept."""

    def __init__(self, config: Any, *, push: bool) -> None:
        super().__init__(config)
        self.local_settings.initial_window_size = WINDOW
        if not push:
            self.local_settings.enable_push = 0
        self.local_settings.acknowledge()

    def initiate_connection(self) -> None:
        """As h2's, with our window for the whole connection."""
        super(_http_h2.BufferedH2Connection, self).initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def receive_data(self, data: Any) -> list[h2.events.Event]:
        """As h2's, with data that came in several frames as one event."""
        return joined(super().receive_data(data))


class _Measured(_http2.Http2Connection):
    """An HTTP/2 end that acknowledges what the other side took."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)  # type: ignore[call-arg]
        self.h2_conn = _Windowed(self.h2_conf, push=isinstance(self, _http2.Http2Server))
        self.owed: dict[int, int] = {}
        self._flooding = Flooding()
        self.pressure = driver_of(context).pressure
        self.pressure.ends[self.conn] = self

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, Settle):
            for stream_id in [number for number in self.owed if not self.pressure.stuck(self, number)]:
                self._acknowledge(stream_id, self.owed.pop(stream_id))
            if data := self.h2_conn.data_to_send():
                yield commands.SendData(self.conn, data)
            return
        yield from super()._handle_event(event)

    def _acknowledge(self, stream_id: int, length: int) -> None:
        try:
            self.h2_conn.acknowledge_received_data(length, stream_id)
        except h2.exceptions.ProtocolError:
            return  # the stream or the connection ended since

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """Data is acknowledged when the other side has room; what carries nothing ends the connection in the end."""
        if self._flooding.too_many(event, time.monotonic()):
            calm = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
            yield from self.protocol_error(
                "too many frames that carry nothing, or streams that are reset", calm
            )
            return True
        if isinstance(event, h2.events.ConnectionTerminated):
            event.additional_data = None  # quoted cut off, it could not be recognised
        if not isinstance(event, h2.events.DataReceived):
            return (yield from super().handle_h2_event(event))
        state = self.streams.get(event.stream_id)
        if state is _http2.StreamState.EXPECTING_HEADERS:
            yield from self.protocol_error("data before headers")
            return True
        if state is not None and event.data:
            yield ReceiveHttp(self.ReceiveData(event.stream_id, event.data))
        if event.flow_controlled_length:
            if self.pressure.stuck(self, event.stream_id):
                self.owed[event.stream_id] = self.owed.get(event.stream_id, 0) + event.flow_controlled_length
            else:
                self._acknowledge(event.stream_id, event.flow_controlled_length)
        return False


class Http2Server(_Measured, _http2.Http2Server):
    """HTTP/2 toward the program."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._unsent: dict[int, int] = {}

    def _lacking(self, event: h2.events.Event) -> int:
        """Bytes of a body that its length announced, once a head or trailers end it: h2 counts at data alone."""
        match event:
            case h2.events.RequestReceived():
                said = [value for name, value in event.headers if name == b"content-length"]
                if said and event.stream_ended is not None:
                    return int(said[0])
                if said:
                    self._unsent[event.stream_id] = int(said[0])
            case h2.events.DataReceived() if event.stream_id in self._unsent:
                self._unsent[event.stream_id] -= len(event.data)
            case h2.events.TrailersReceived():
                return self._unsent.pop(event.stream_id, 0)
            case h2.events.StreamEnded() | h2.events.StreamReset():
                self._unsent.pop(event.stream_id, None)
        return 0

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """CONNECT, which has neither scheme nor path, is answered: the other streams go on."""
        if lacking := self._lacking(event):
            yield from self.protocol_error(
                f"a body ends {lacking} bytes before its content-length (RFC 9113 §8.1.1)"
            )
            return True
        if isinstance(event, h2.events.RequestReceived) and (b":method", b"CONNECT") in event.headers:
            body = f"capsule: {NO_TUNNEL}\n".encode()
            head = [
                (b":status", b"400"),
                (b"content-length", b"%d" % len(body)),
                (BLOCKED.encode(), b"protocol"),
            ]
            self.h2_conn.send_headers(event.stream_id, head)
            self.h2_conn.send_data(event.stream_id, body, end_stream=True)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())
            yield MalformedHook(self.context, NO_TUNNEL)
            return False
        return (yield from super().handle_h2_event(event))

    def protocol_error(self, message: str, *further: Any) -> Commands:
        """What is no HTTP/2 is reported too."""
        yield MalformedHook(self.context, message)
        yield from super().protocol_error(message, *further)


class Http2Client(_Measured, _http2.Http2Client):
    """HTTP/2 toward the upstream."""


def error_response(status_code: int, message: str = "") -> bytes:
    """An answer of HTTP/1 in our words."""
    body = f"capsule: {message}\n".encode("utf-8", "backslashreplace")
    reason = status_codes.RESPONSES.get(status_code, "")
    head = (
        f"HTTP/1.1 {status_code} {reason}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
    )
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
