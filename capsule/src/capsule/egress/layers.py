"""The protocol layers of an inspected connection: mitmproxy's, with our decisions, limits and answers.

Needs Python 3.12 and mitmproxy 12 (its internals: `tests/egress/test_layers.py` is the contract). Adds to them: a
refused request is answered before its body is read; bodies go through unless a decision needs them; frames of an
upgraded connection are counted, not collected. `ends` has the protocols of each side. Refuses CONNECT (a connection's
first may be one: `tunnel`) and every upgrade but WebSocket.

    driver.start(wire, inspected(driver.context, tls=True), first_bytes)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mitmproxy import http
from mitmproxy.flow import Error
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as layers_http
from mitmproxy.proxy.layers import tls as layers_tls
from mitmproxy.proxy.layers.http import _http1
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
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

import capsule.egress.lean
from capsule.egress.ends import (
    NO_TUNNEL,
    Commands,
    Http1Client,
    Http1Server,
    Http2Client,
    Http2Server,
    driver_of,
    error_response,
)
from capsule.egress.interception import Settle
from capsule.egress.strictness import fields_problem, request_problem

_ = capsule.egress.lean
BODY_LIMIT = 1 << 20
"""Bytes of a body that a decision may look at."""

LIMIT = "capsule.limit"
"""Of a flow: bytes after which a body is waited for no longer; None for the usual."""
REDACTED = "capsule.redacted"
"""Of a flow: how many values were taken out of the answer's head."""


@dataclass
class BodyLimitHook(commands.StartHook):
    """A body that a decision waits for is longer than it may look at; the decision is now."""

    flow: http.HTTPFlow


def reach(host: str, port: int, *, private: bool) -> Any:
    """An upstream's address for mitmproxy, which shares connections of equal ones: `private` makes it another."""
    return (host, port, private)


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

    def event_to_child(self, child: Any, event: events.Event) -> Commands:
        """An error that the program is told of quotes nothing that is a secret's."""
        if isinstance(event, ResponseProtocolError) and isinstance(child, Http1Server | Http2Server):
            event = replace(event, message=driver_of(self.context).guard.text(event.message))
        yield from super().event_to_child(child, event)

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

    def state_stream_request_body(self, event: events.Event) -> Commands:
        """As mitmproxy's, without trailers: nobody has decided them, and a server may ignore them (RFC 9110 §6.5.1)."""
        if not isinstance(event, RequestTrailers):
            yield from super().state_stream_request_body(event)

    def state_consume_request_body(self, event: events.Event) -> Commands:
        """A body that is too long to be looked at goes on as a stream, if it may; without trailers."""
        if isinstance(event, RequestTrailers):
            return
        yield from super().state_consume_request_body(event)
        most = self.flow.metadata.get(LIMIT) or BODY_LIMIT
        if isinstance(event, RequestData) and len(self.request_body_buf) > most:
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
        self.flow.metadata[REDACTED] = driver_of(self.context).guard.head(event.response)
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

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """As mitmproxy's, toward a connection that only requests of the same `reach` share."""
        request = self.flow.request
        wanted: Any = layers_http.GetHttpConnection(
            reach(request.host, request.port, private=bool(self.flow.metadata.get("private"))),
            request.scheme == "https",
            None,
            "tcp",
        )
        connection, problem = yield wanted
        if problem:
            code = ErrorCode.CONNECT_FAILED
            yield from self.handle_protocol_error(ResponseProtocolError(self.stream_id, problem, code))
            return False
        self.context.server = self.flow.server_conn = connection
        return True

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
        if problem is not None:
            problem = problem.partition(" Disable the ")[0]  # an option of mitmproxy's that nobody has here
        if self.flow.request.method == "CONNECT":
            problem = NO_TUNNEL
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
    """Bytes of an upgraded connection come, or its end; `refused`: they do not go on, `last` goes to the program.

    `data` goes on as whoever is asked leaves it.
    """

    blocking = False
    flow: http.HTTPFlow
    from_client: bool
    data: bytes
    refused: bool = False
    last: bytes = b""


class Frames(layer.Layer):
    """The bytes after an upgrade, both ways, as the hook leaves them."""

    def __init__(self, context: Context, flow: http.HTTPFlow) -> None:
        super().__init__(context)
        self.flow = flow
        self.over = False

    def _handle_event(self, event: events.Event) -> Commands:
        if self.over:
            return
        if isinstance(event, events.DataReceived):
            from_client = event.connection == self.context.client
            hook = FramesHook(self.flow, from_client, event.data)
            yield hook
            if hook.refused:
                self.over = True
                if hook.last:
                    yield commands.SendData(self.context.client, hook.last)
                yield commands.CloseConnection(self.context.server)
                yield commands.CloseConnection(self.context.client)
                return
            if hook.data:
                yield commands.SendData(
                    self.context.server if from_client else self.context.client, hook.data
                )
        elif isinstance(event, events.ConnectionClosed):
            from_client = event.connection == self.context.client
            yield FramesHook(self.flow, from_client, b"")
            yield commands.CloseConnection(self.context.server if from_client else self.context.client)


# mitmproxy names its ends where it makes them; these are the ones this process uses.
for _end in (Http1Server, Http1Client, Http2Server, Http2Client):
    setattr(layers_http, _end.__name__, _end)
_http1.make_error_response = error_response
