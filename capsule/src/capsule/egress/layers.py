"""The protocol layers of an inspected connection: mitmproxy's, with our decisions, limits and answers.

Needs Python 3.12 and mitmproxy 12 (its internals: `tests/egress/test_layers.py` is the contract). Adds to them: heads
are bounded; a refused request is answered before its body is read; bodies go through unless a decision needs them;
HTTP/2 flow control follows the slower side; trailers of HTTP/1 are dropped; 1xx answers do not end an exchange; frames
of an upgraded connection are counted, not collected. Refuses CONNECT and every upgrade but WebSocket.

    driver.start(wire, inspected(driver.context, tls=True), first_bytes)
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import h2.events
import h2.exceptions
import h11
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.flow import Error
from mitmproxy.net.http import status_codes
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as layers_http
from mitmproxy.proxy.layers import tls as layers_tls
from mitmproxy.proxy.layers.http import _http1, _http2, _http_h2
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpResponseHeadersHook,
)

from capsule.egress.interception import Driver, Settle
from capsule.egress.strictness import fields_problem, request_problem

HEAD_LIMIT = 128 << 10
"""Bytes of a request's or response's head, of a chunk's head, and of what was sent before its turn."""
BODY_LIMIT = 1 << 20
"""Bytes of a body that a decision may look at."""
WINDOW = 2 << 20
"""HTTP/2 flow control: what one stream may send ahead."""
CONNECTION_WINDOW = 16 << 20

Commands = layer.CommandGenerator[None]


@dataclass
class BodyLimitHook(commands.StartHook):
    """A body that a decision waits for is longer than it may look at; the decision is now."""

    flow: http.HTTPFlow


def driver_of(context: Context) -> Driver:
    """The driver that a layer runs in."""
    driver: Driver = context.options.driver
    return driver


class Root(layer.Layer):
    """Stands above TLS, where mitmproxy's layers look for how a connection came about; it does nothing."""

    def _handle_event(self, _: events.Event) -> Commands:
        yield from ()


def inspected(context: Context, *, tls: bool) -> layer.Layer:
    """The layers of an inspected connection; `context.server.address` is the name and port it is for."""
    Root(context)
    context.server.tls = tls
    if not tls:
        return Http(context, layers_http.HTTPMode.transparent)
    outermost = ClientTLS(context)
    outermost.child_layer = Http(context, layers_http.HTTPMode.transparent)
    return outermost


class ClientTLS(layers_tls.ClientTLSLayer):
    """TLS toward the program; its hello was read before this layer began."""

    def receive_handshake_data(self, data: bytes) -> layer.CommandGenerator[tuple[bool, str | None]]:
        """The context first, then mitmproxy's handshake."""
        if not self.client_hello_parsed:
            self.client_hello_parsed = True
            yield from self.start_tls()
            if not self.tls:
                return False, "no certificate"
        return (yield from super().receive_handshake_data(data))


class Http(layers_http.HttpLayer):
    """HTTP of one connection, with our streams and our ends."""

    def __init__(self, context: Context, mode: layers_http.HTTPMode) -> None:
        super().__init__(context, mode)
        driver_of(context).pressure.streams = self.streams

    def _handle_event(self, event: events.Event) -> Commands:
        return self._settle(event) if isinstance(event, Settle) else super()._handle_event(event)

    def _settle(self, event: Settle) -> Commands:
        for end in list(self.connections.values()):
            if not isinstance(end, Stream):
                yield from self.event_to_child(end, event)

    def make_stream(self, stream_id: int) -> Commands:
        """Streams that can refuse early."""
        self.streams[stream_id] = Stream(self.context.fork(), stream_id)
        yield from self.event_to_child(self.streams[stream_id], events.Start())


class Stream(layers_http.HttpStream):
    """One request and its response."""

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Commands:
        """A request that was refused at its head is answered at once."""
        yield from super().state_wait_for_request_headers(event)
        if (
            not event.end_stream
            and self.client_state == self.state_consume_request_body
            and self.flow.response
        ):
            yield from self.refuse()

    def state_consume_request_body(self, event: events.Event) -> Commands:
        """A body that is too long to be looked at goes on as a stream, if it may."""
        yield from super().state_consume_request_body(event)
        if isinstance(event, RequestData) and len(self.request_body_buf) > BODY_LIMIT:
            yield BodyLimitHook(self.flow)
            if (yield from self.check_killed(True)):
                return
            if self.flow.response:
                yield from self.refuse()
                return
            held = bytes(self.request_body_buf)
            self.request_body_buf.clear()
            self.flow.request.stream = self.flow.request.stream or True
            yield from self.start_request_stream()
            if self.client_state == self.state_stream_request_body:
                yield from self.state_stream_request_body(RequestData(self.stream_id, held))

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Commands:
        """An answer that a decision replaced ends what comes from the upstream."""
        self.flow.response = event.response
        if (yield from self.check_invalid(False)):
            return
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        if self.flow.response is not event.response:
            cancel = RequestProtocolError(self.stream_id, "refused", ErrorCode.CANCEL)
            yield layers_http.SendHttp(cancel, self.context.server)
            yield from self.refuse()
        elif self.flow.response.stream and not event.end_stream:
            yield from self.start_response_stream()
        else:
            self.server_state = self.state_consume_response_body

    def refuse(self) -> Commands:
        """Sends the response that a decision made and forgets the rest of the request."""
        response = self.flow.response
        assert response is not None
        self.request_body_buf.clear()
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        client = self.context.client
        yield layers_http.SendHttp(ResponseHeaders(self.stream_id, response, False), client)
        if response.raw_content:
            yield layers_http.SendHttp(ResponseData(self.stream_id, response.raw_content), client)
        yield layers_http.SendHttp(ResponseEndOfMessage(self.stream_id), client)
        yield layers_http.DropStream(self.stream_id)

    def check_body_size(self, _: bool) -> layer.CommandGenerator[bool]:
        """Bodies have no limit of size; what is kept of them has (`state_consume_request_body`)."""
        yield from ()
        return False

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        """A request that cannot be carried is refused as any other, by our answer."""
        if not request:
            return (yield from self._check_response())
        problem = layers_http.validate_request(self.mode, self.flow.request, True)
        if self.flow.request.method == "CONNECT":
            problem = "CONNECT is not carried: connect to the host itself"
        if problem is None:
            sent = self.flow.request.data
            http2 = self.context.client.alpn == b"h2"
            version = sent.http_version.decode("ascii", "replace")
            problem = request_problem(sent.method, sent.path, version, sent.headers.fields, http2=http2)
        if problem is None:
            return False
        self.flow.error = Error(problem)
        yield HttpRequestHeadersHook(self.flow)
        if self.flow.response is None:
            return (yield from super().check_invalid(True))
        self.flow.response.headers["connection"] = "close"
        yield from self.refuse()
        return True

    def _check_response(self) -> layer.CommandGenerator[bool]:
        assert self.flow.response is not None
        try:
            validate_headers(self.flow.response)
            problem = fields_problem(self.flow.response.headers.fields)
        except ValueError as error:
            problem = str(error)
        if problem is not None:
            yield commands.CloseConnection(self.flow.server_conn)
            yield from self._failed(f"the upstream's answer is ambiguous: {problem}")
        return problem is not None

    def _failed(self, message: str) -> Commands:
        """Answers, before anything was answered, that the exchange failed."""
        self.flow.response = None
        self.flow.error = Error(message)
        yield HttpErrorHook(self.flow)
        if self.flow.response is not None:
            yield from self.refuse()
            return
        code = ErrorCode.GENERIC_SERVER_ERROR
        yield layers_http.SendHttp(ResponseProtocolError(self.stream_id, message, code), self.context.client)
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False

    def handle_protocol_error(self, event: Any) -> Commands:
        """A failure upstream, before anything was answered, is answered by ours."""
        early = isinstance(event, ResponseProtocolError) and self.flow.response is None
        if not early or self.client_state == self.state_errored:
            yield from super().handle_protocol_error(event)
            return
        yield from self._failed(event.message)

    def flow_done(self) -> Commands:
        """After 101 the connection carries frames."""
        assert self.flow.response is not None
        if self.flow.response.status_code != 101:
            yield from super().flow_done()
            return
        self.flow.live = False
        self.child_layer = Frames(self.context, self.flow)
        self._handle_event = self.passthrough
        yield from self.child_layer.handle_event(events.Start())
        yield layers_http.SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)


@dataclass
class FramesHook(commands.StartHook):
    """Bytes of an upgraded connection went by, or its end."""

    blocking = False
    flow: http.HTTPFlow
    from_client: bool
    data: bytes


class Frames(layer.Layer):
    """The bytes after an upgrade, both ways, as they are."""

    def __init__(self, context: Context, flow: http.HTTPFlow) -> None:
        super().__init__(context)
        self.flow = flow

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.DataReceived):
            from_client = event.connection == self.context.client
            yield FramesHook(self.flow, from_client, event.data)
            yield commands.SendData(self.context.server if from_client else self.context.client, event.data)
        elif isinstance(event, events.ConnectionClosed):
            from_client = event.connection == self.context.client
            yield FramesHook(self.flow, from_client, b"")
            yield commands.CloseConnection(self.context.server if from_client else self.context.client)


class _Plain:
    """A body's reader without its trailers, which HTTP/1 may drop (RFC 9110 §6.5.1)."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __call__(self, buffer: Any) -> Any:
        event = self._reader(buffer)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event

    def read_eof(self) -> Any:
        return self._reader.read_eof()


class _Bounded(_http1.Http1Connection):
    """An HTTP/1 end that keeps no more than `HEAD_LIMIT`."""

    def _set_reader(self, reader: Any) -> None:
        self._reader = _Plain(reader)

    def __init__(self, context: Context, *further: Any) -> None:
        super().__init__(context, *further)
        driver_of(context).pressure.ends[self.conn] = self

    body_reader = property(lambda self: self._reader, _set_reader)

    def _handle_event(self, event: events.Event) -> Commands:
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
    """What came is not a request of HTTP/1; it was answered with 400 or 431."""

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


class _Measured(_http2.Http2Connection):
    """An HTTP/2 end that acknowledges what the other side took."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)  # type: ignore[call-arg]
        self.h2_conn = _Windowed(self.h2_conf, push=isinstance(self, _http2.Http2Server))
        self.owed: dict[int, int] = {}
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
        """Data is acknowledged when the other side has room."""
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


class Http2Client(_Measured, _http2.Http2Client):
    """HTTP/2 toward the upstream."""


def _error_response(status_code: int, message: str = "") -> bytes:
    body = f"capsule: {message}\n".encode("utf-8", "backslashreplace")
    reason = status_codes.RESPONSES.get(status_code, "")
    head = (
        f"HTTP/1.1 {status_code} {reason}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
    )
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


# mitmproxy names its ends where it makes them; these are the ones this process uses.
for _end in (Http1Server, Http1Client, Http2Server, Http2Client):
    setattr(layers_http, _end.__name__, _end)
_http1.make_error_response = _error_response
