"""One inspected connection: answers the layers' hooks, dials for them, and ends what takes too long.

Needs Python 3.12 and mitmproxy 12. What may go on is `deciding`'s; this carries it. Refuses an upstream's answer of 101
that nobody asked for or that agrees to nothing; a failure before the first byte of an answer is told as 502 with its
reason.

    exchange = Exchange(session, place, ended)
    await exchange.begin(sock, first_bytes)
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from mitmproxy import http
from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers import tls as layers_tls
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)

from capsule.egress import upgrade
from capsule.egress.deciding import Deciding
from capsule.egress.dialer import AddressError
from capsule.egress.ends import MalformedHook
from capsule.egress.guarding import Guard
from capsule.egress.interception import Driver, Wire
from capsule.egress.layers import REDACTED, BodyLimitHook, FramesHook, inspected
from capsule.egress.story import Place, Story
from capsule.egress.verdict import Verdict
from capsule.egress.websocket import Frames, closing

if TYPE_CHECKING:
    from capsule.egress.session import Session

IDLE = 600.0
"""Seconds without a byte that end a connection."""
HANDSHAKE = 15.0
HEAD = 30.0
"""Seconds that a begun head may take."""


class Exchange:
    """The hooks of one connection."""

    def __init__(self, session: Session, place: Place, ended: Callable[[], None]) -> None:
        self.session = session
        self.place = place
        self.begun = time.monotonic()
        self.stories: dict[str, Story] = {}
        self._address: dict[Connection, str] = {}
        self._forbidden: set[str] = set()
        self._shaking: dict[Connection, float] = {}
        self._slow: set[Connection] = set()
        self.driver = Driver(
            peer=place.source, local=place.target, hook=self.hook, dial=self.dial, ended=ended
        )
        self.driver.guard = Guard(session.vault, place.name)
        self.deciding = Deciding(session, place, self._break, self.driver.guard)
        context = self.driver.context
        context.server.address = (place.name, place.port)
        if place.hello is not None:
            context.client.sni = place.hello.name
            context.client.alpn_offers = session.encryption.offered(
                place.name, place.port, place.hello.protocols
            )
            context.server.sni = place.name
        self._hooks: dict[type, Callable[[Any], Awaitable[None] | None]] = {
            HttpRequestHeadersHook: self.on_request_head,
            HttpRequestHook: self.on_request,
            BodyLimitHook: self.on_body_limit,
            HttpResponseHeadersHook: self.on_response_head,
            HttpResponseHook: self.on_response,
            HttpErrorHook: self.on_error,
            FramesHook: self.on_frames,
            MalformedHook: self.on_malformed,
            layers_tls.TlsStartClientHook: self.on_tls_inside,
            layers_tls.TlsStartServerHook: self.on_tls_outside,
            layers_tls.TlsEstablishedServerHook: self.on_tls_established,
            layers_tls.TlsFailedClientHook: self.on_tls_failed,
        }

    async def begin(self, sock: socket.socket, first: bytes) -> None:
        """Takes over an accepted socket."""
        wire = Wire(self.driver, self.driver.context.client)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: wire, sock)
        layer = inspected(self.driver.context, tls=self.place.hello is not None)
        self.driver.start(wire, layer, first)

    def hook(self, command: commands.StartHook) -> Awaitable[None] | None:
        """The driver's question."""
        found = self._hooks.get(type(command))
        return found(command) if found is not None else None

    async def dial(self, connection: Connection) -> tuple[asyncio.Transport, Wire]:
        """Opens what a decision allowed."""
        assert isinstance(connection, Server)
        assert connection.address is not None
        host, port, private = cast("tuple[str, int, bool]", connection.address)  # of `layers.reach`
        try:
            sock, address = await self.session.dialer.dial(host, port, private=private)
        except AddressError as error:
            self._forbidden.add(str(error))
            raise
        wire = Wire(self.driver, connection)
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: wire, sock=sock)
        except BaseException:
            sock.close()
            raise
        self._address[connection] = address
        if connection.tls:
            self._shaking[connection] = time.monotonic()
        return transport, wire

    # TLS

    def on_tls_inside(self, hook: layers_tls.TlsStartClientHook) -> None:
        """Our certificate for the name."""
        offers = tuple(hook.data.conn.alpn_offers)
        hook.data.ssl_conn = self.session.encryption.toward_program(self.place.name, offers)

    def on_tls_outside(self, hook: layers_tls.TlsStartServerHook) -> None:
        """Verification of the name; the program's protocol is asked for."""
        client = hook.data.context.client
        if client.alpn == b"h2":
            hook.data.conn.alpn_offers = [b"h2", b"http/1.1"]
        elif client.alpn is not None:
            hook.data.conn.alpn_offers = [b"http/1.1"]
        hook.data.ssl_conn = self.session.encryption.toward_upstream(
            self.place.name, hook.data.conn.alpn_offers
        )

    def on_tls_established(self, hook: layers_tls.TlsEstablishedServerHook) -> None:
        """What it chose is offered inside next time, if it had the choice: not every program asks for HTTP/2."""
        if b"h2" in (hook.data.conn.alpn_offers or ()):
            self.session.encryption.learned(self.place.name, self.place.port, hook.data.conn.alpn)

    def on_tls_failed(self, hook: layers_tls.TlsFailedClientHook) -> None:
        """The program does not like our certificate, or is not a TLS client after all."""
        said = _said(hook.data.conn.error or "")
        allow = "let it trust /run/capsule/bundle.pem, or give the host an entry with `inspect: never`"
        verdict = Verdict("block", "protocol", f"TLS with the program failed: {said}", allow=allow)
        self.session.refused_connection(self.place, verdict)

    # HTTP

    def on_request_head(self, hook: HttpRequestHeadersHook) -> Awaitable[None] | None:
        """The decision at the headers, when the program is known and the last decisions are on their way."""
        flow = hook.flow
        story = self.session.begin_http(flow, self.place)
        self.stories[flow.id] = story
        if flow.error is not None:
            self.deciding.refuse(flow, story, Verdict("block", "protocol", str(flow.error)), status=400)
            return None
        if not self.place.program.done() or self.session.channel.crowded:
            return self._decide_later(flow, story)
        self.session.name_program(story.event, self.place)
        return self.deciding.head(flow, story)

    async def _decide_later(self, flow: http.HTTPFlow, story: Story) -> None:
        await asyncio.wait([self.place.program])
        await self.session.recorder.room()
        self.session.name_program(story.event, self.place)
        waiting = self.deciding.head(flow, story)
        if waiting is not None:
            await waiting

    def on_body_limit(self, hook: BodyLimitHook) -> Awaitable[None] | None:
        """A body that was waited for is longer than anybody looks at."""
        story = self.stories.get(hook.flow.id)
        return self.deciding.body(hook.flow, story, None) if story is not None and story.waits else None

    def on_request(self, hook: HttpRequestHook) -> Awaitable[None] | None:
        """The request is complete."""
        story = self.stories.get(hook.flow.id)
        if story is None or not story.waits:
            return None
        return self.deciding.body(hook.flow, story, hook.flow.request.raw_content or b"")

    def on_response_head(self, hook: HttpResponseHeadersHook) -> Awaitable[None] | None:
        """The upstream began to answer."""
        flow = hook.flow
        story = self.stories.get(flow.id)
        if story is None or story.refused or flow.response is None:
            return None
        story.first_byte = time.monotonic()
        story.redacted = flow.metadata.get(REDACTED, 0)
        story.address = self._address.get(flow.server_conn)
        if flow.response.status_code == 101 and (problem := _not_agreed(flow, story)) is not None:
            self.deciding.refuse(flow, story, Verdict("block", "protocol", problem), status=502)
            return None
        return self.deciding.answers.answered(flow, story)

    def on_response(self, hook: HttpResponseHook) -> None:
        """The exchange is over."""
        story = self.stories.get(hook.flow.id)
        if story is None or (hook.flow.response is not None and hook.flow.response.status_code == 101):
            return
        if hook.flow.response is not None and not story.refused:
            self.deciding.answers.complete(hook.flow, story)
        if not story.done:
            self._finish(hook.flow, story, error=None)

    def on_error(self, hook: HttpErrorHook) -> None:
        """It failed; when the program has nothing yet it is told what."""
        flow = hook.flow
        story = self.stories.get(flow.id)
        if story is None or story.done:
            return
        # A flow has the connection that it goes out on only when that has come about, TLS and all.
        story.unreached = flow.server_conn not in self._address
        message = _said(flow.error.msg) if flow.error is not None else "it ended"
        if flow.server_conn in self._slow:
            message = f"the upstream took more than {HEAD:.0f} s for the head of its answer"
        if flow.response is None and message in self._forbidden:
            self.deciding.refuse(flow, story, Verdict("block", "address", message))
            return
        if flow.response is None:
            what = f"{flow.request.method} {story.event['http']['url']}"
            text = self.driver.guard.text(f"capsule could not carry {what}\n{message}\n")
            flow.response = http.Response.make(
                502, text.encode("utf-8", "replace"), {"content-type": "text/plain; charset=utf-8"}
            )
        self._finish(flow, story, error=message)

    def on_malformed(self, hook: MalformedHook) -> None:
        """Bytes that are no request."""
        self.session.refused_connection(self.place, Verdict("block", "protocol", hook.reason))

    def on_frames(self, hook: FramesHook) -> None:
        """Bytes of an upgraded connection."""
        story = self.stories.get(hook.flow.id)
        if story is None:
            return
        if not hook.data:
            self._finish(hook.flow, story, error=None)
            return
        if story.frames is None:
            vault = self.session.vault
            held = (
                (vault.secrets.placeholders, vault.secrets.echoes(self.place.name))
                if vault is not None
                else ()
            )
            assert hook.flow.response is not None
            story.frames = Frames(*(held or (None,)), extended=upgrade.extended(hook.flow.response.headers))
        if (spent := self.session.meter.spend(len(hook.data))) is not None:
            verdict = Verdict("block", "budget", spent.reason, allow=spent.allow)
        elif not hook.from_client:
            story.received += len(hook.data)
            hook.data = story.frames.into(hook.data)
            if story.frames.redacted:
                story.notes["redacted"] = story.redacted + story.frames.redacted
            if story.frames.unreadable is None:
                return
            verdict = Verdict("block", "secret", story.frames.unreadable)
        elif (problem := story.frames.out(hook.data)) is None:
            story.sent += len(hook.data)
            return
        else:
            allow = "send it only where the policy's `secrets` say"
            verdict = Verdict("block", "secret", problem, allow=allow)
            if story.frames.malformed:
                verdict = Verdict("block", "protocol", problem)
        story.verdict = verdict
        hook.refused = True
        hook.last = closing(f"capsule: {verdict.reason}") if story.frames.can_close else b""
        self._finish(hook.flow, story, error=None)

    # The end

    def tick(self, now: float) -> None:
        """Ends what takes too long."""
        client = self.driver.context.client
        if self.place.hello is not None and not client.tls_established and now - self.begun > HANDSHAKE:
            self._late(f"the TLS handshake took more than {HANDSHAKE:.0f} s")
        elif now - self.driver.heads.get(client, now) > HEAD:
            self._late(f"the head of a request took more than {HEAD:.0f} s")
        elif now - self.driver.active > IDLE:
            self.driver.abort(f"nothing moved for {IDLE:.0f} s")
        for connection, since in list(self._shaking.items()):
            wire = self.driver.wire(connection)
            if connection.tls_established or wire is None:
                del self._shaking[connection]
            elif now - since > HANDSHAKE and wire.transport is not None:
                wire.transport.abort()  # the layers are told, and tell the program
        for connection, since in list(self.driver.heads.items()):
            wire = self.driver.wire(connection)
            if now - since > HEAD and wire is not None and wire.transport is not None:
                self._slow.add(connection)
                wire.transport.abort()

    def _late(self, reason: str) -> None:
        self.session.refused_connection(self.place, Verdict("block", "protocol", reason))
        self.driver.abort(reason)

    def _break(self, reason: str) -> None:
        """Ends the connection from within an event of its layers."""
        asyncio.get_running_loop().call_soon(self.driver.abort, reason)

    def _finish(self, flow: http.HTTPFlow, story: Story, error: str | None) -> None:
        self.stories.pop(flow.id, None)
        self.session.record_http(flow, story, error)

    def over(self) -> None:
        """The connection is gone: what was not finished is recorded as broken off."""
        for story in list(self.stories.values()):
            self.session.record_http(None, story, self.driver.dead or "the connection ended")
        self.stories.clear()


def _not_agreed(flow: http.HTTPFlow, story: Story) -> str | None:
    """Why an answer of 101 does not change what is spoken; None when it does."""
    assert flow.response is not None
    if not story.event["http"].get("websocket"):
        return "the upstream changed to another protocol; no upgrade but WebSocket's is carried"
    problem = upgrade.answer_problem(flow.request.headers, flow.response.headers)
    return None if problem is None else f"the upstream did not agree to a WebSocket: {problem}"


def _said(text: str) -> str:
    """A failure of mitmproxy's layers in words for somebody who does not have its options."""
    if "cannot agree on a TLS version" in text:
        return "there is no version of TLS that both sides speak; 1.2 or later is needed"
    return text.replace("the proxy's certificate", "the certificate of this run")
