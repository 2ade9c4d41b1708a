"""The way of one request through its decisions: at the head, with the body when something reads it, at the answer.

Needs Python 3.12 and mitmproxy 12. Refuses a request that is for another host than its connection, and whatever the
judge refuses; a refused request is answered here and nothing of it leaves. A body that an edit must change has to fit
`layers.BODY_LIMIT` and be without content coding, else the request is refused rather than sent unchanged.

    waiting = deciding.head(flow, story)      # None: decided; else to be awaited
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mitmproxy import http

from capsule.egress.budget import Exhausted
from capsule.egress.events import response_event
from capsule.egress.filling import Filling
from capsule.egress.judgement import Judgement
from capsule.egress.metering import wants_body
from capsule.egress.story import Place, Story
from capsule.egress.verdict import Verdict, answer
from capsule.policy.addresses import HostError, parse_authority
from capsule.rules.rewrite import (
    LineRedactor,
    RewriteError,
    changes_body,
    edit_body,
    edit_headers,
    edit_query,
    redacts,
)

if TYPE_CHECKING:
    from capsule.egress.session import Session

TEXT = 64 << 10
"""Bytes of a body that rules see as text."""
_IDENTITY = ("", "identity")


class Deciding:
    """The decisions of one connection."""

    def __init__(self, session: Session, place: Place, abort: Callable[[str], None]) -> None:
        self._session = session
        self._place = place
        self._abort = abort
        self._filling = Filling(session.vault, place) if session.vault is not None else None

    def head(self, flow: http.HTTPFlow, story: Story) -> Awaitable[None] | None:
        """The decision at the request's headers."""
        problem = disagreement(flow.request, self._place)
        if problem is not None:
            self.refuse(flow, story, problem)
            return None
        settle(flow.request, self._place)
        return self._act(flow, story, self._session.judge.request(story.event, "request"))

    def body(self, flow: http.HTTPFlow, story: Story, body: bytes | None) -> Awaitable[None] | None:
        """The decision with the body; None: it is longer than anybody looks at."""
        story.waits = False
        story.event["http"]["body"] = body_event(flow.request, body)
        if story.pending:
            story.pending = False
            return self._act(flow, story, self._session.judge.request(story.event, "body"))
        return self._send(flow, story, body)

    def _act(self, flow: http.HTTPFlow, story: Story, judged: Judgement) -> Awaitable[None] | None:
        self._session.note(judged.findings, story)
        if judged.asks is not None:
            return self._ask(flow, story, judged)
        if judged.pending:
            self._wait(flow, story, pending=True)
        elif judged.verdict.allowed:
            return self._go(flow, story, judged, judged.verdict)
        else:
            self.refuse(flow, story, judged.verdict)
        return None

    async def _ask(self, flow: http.HTTPFlow, story: Story, judged: Judgement) -> None:
        verdict = await self._session.ask(story.event, judged)
        if not verdict.allowed:
            self.refuse(flow, story, verdict)
        elif (waiting := self._go(flow, story, judged, verdict)) is not None:
            await waiting

    def _wait(self, flow: http.HTTPFlow, story: Story, *, pending: bool) -> None:
        story.waits = True
        story.pending = pending
        flow.request.stream = False

    def _go(
        self, flow: http.HTTPFlow, story: Story, judged: Judgement, verdict: Verdict
    ) -> Awaitable[None] | None:
        story.verdict = verdict
        story.entry = judged.entry
        story.edits += judged.edits
        body = story.event["http"].get("body")
        filling = self._filling is not None and self._filling.wants_body(judged.entry)
        modelled = wants_body(flow.request.method, flow.request.path)
        if body is None and (filling or modelled or changes_body(story.edits, "request")):
            self._wait(flow, story, pending=False)
            return None
        whole = body is not None and not body.get("long")
        return self._send(flow, story, flow.request.raw_content if whole else None)

    def _send(self, flow: http.HTTPFlow, story: Story, body: bytes | None) -> Awaitable[None] | None:
        """Everything is decided: the request as it goes out."""
        try:
            self._edit(flow, story, body)
        except RewriteError as error:
            self.refuse(flow, story, Verdict("block", "rule", error.message, rule=story.verdict.rule))
            return None
        request = flow.request
        story.model = self._session.meter.begin(request.method, self._place.name, request.path, body)
        if story.taken is None:
            taken = self._session.meter.reserve(story.model, len(body or b""))
            if isinstance(taken, Exhausted):
                self.refuse(flow, story, Verdict("block", "budget", taken.reason, allow=taken.allow))
                return None
            story.taken = taken
        if self._filling is not None:
            found = self._filling.fill(
                flow.request, story.entry, flow.request.raw_content if body is not None else None
            )
            if isinstance(found, Verdict):
                self.refuse(flow, story, found)
                return None
            if found is not None:
                return self._renew(flow, story, body, found)
            if self._filling.used:
                story.notes["secret"] = list(self._filling.used)
        if body is not None:
            story.sent = len(flow.request.raw_content or b"")
            if (spent := self._session.meter.spend(story.sent)) is not None:
                self.refuse(flow, story, Verdict("block", "budget", spent.reason, allow=spent.allow))
            return None
        scanner = self._filling.scanner() if self._filling is not None else None

        def count(data: bytes) -> bytes | list[bytes]:
            if scanner is not None and (seen := scanner.feed(data)):
                reason = f"secret_elsewhere: the placeholder of {', '.join(sorted(seen))} stands in the body"
                story.verdict = Verdict("block", "secret", reason)
                self._abort(reason)
                return []
            if self._overspent(story, len(data)):
                return []
            story.sent += len(data)
            return data

        flow.request.stream = count
        return None

    def _overspent(self, story: Story, count: int) -> bool:
        """Whether these bytes are over the budget; then the connection ends."""
        spent = self._session.meter.spend(count)
        if spent is None:
            return False
        story.verdict = Verdict("block", "budget", spent.reason, allow=spent.allow)
        self._abort(spent.reason)
        return True

    async def _renew(
        self, flow: http.HTTPFlow, story: Story, body: bytes | None, names: tuple[str, ...]
    ) -> None:
        """Fresh values first; the edits were made already and are not made again."""
        assert self._filling is not None
        if not await self._filling.fresh(names):
            reason = f"secret {', '.join(names)} expired and was not renewed"
            self.refuse(flow, story, Verdict("block", "secret", reason))
            return
        story.edits = tuple(edit for edit in story.edits if edit.where == "response")
        waiting = self._send(flow, story, body)
        if waiting is not None:
            await waiting

    def _edit(self, flow: http.HTTPFlow, story: Story, body: bytes | None) -> None:
        request = flow.request
        possible = (*story.edits, *self._session.judge.rules.may_edit("http_response", story.event))
        if redacts(possible, "response"):
            request.headers["accept-encoding"] = "identity"
        if not story.edits:
            return
        request.headers = http.Headers(
            _encoded(edit_headers(story.edits, _decoded(request.headers), "request"))
        )
        path, mark, query = request.path.partition("?")
        changed = edit_query(story.edits, query)
        if changed != query or mark:
            request.path = f"{path}?{changed}" if changed else path
        if not changes_body(story.edits, "request"):
            return
        if body is None:
            raise RewriteError("the body is too long to be changed", next_step="take the rule off this host")
        if request.headers.get("content-encoding", "").lower() not in _IDENTITY:
            raise RewriteError(
                "a compressed body cannot be changed", next_step="send it without content coding"
            )
        request.content = edit_body(story.edits, body, "request")

    # The answer

    def answered(self, flow: http.HTTPFlow, story: Story) -> Awaitable[None] | None:
        """The decision at the answer's headers."""
        assert flow.response is not None
        rules = self._session.judge.rules
        if not rules.asks_about("http_response"):
            self._receive(flow, story)
            return None
        section = story.event["http"]
        section["status"] = flow.response.status_code
        section["response"] = response_event(flow.response, None)
        judged = self._session.judge.request(story.event, "response")
        self._session.note(judged.findings, story)
        if judged.asks is not None:
            return self._ask_answered(flow, story, judged)
        if not judged.verdict.allowed:
            self.refuse(flow, story, judged.verdict)
            return None
        story.edits += judged.edits
        self._receive(flow, story)
        return None

    async def _ask_answered(self, flow: http.HTTPFlow, story: Story, judged: Judgement) -> None:
        verdict = await self._session.ask(story.event, judged)
        if verdict.allowed:
            story.verdict = verdict
            self._receive(flow, story)
        else:
            self.refuse(flow, story, verdict)

    def _receive(self, flow: http.HTTPFlow, story: Story) -> None:
        response = flow.response
        assert response is not None
        if story.edits:
            response.headers = http.Headers(
                _encoded(edit_headers(story.edits, _decoded(response.headers), "response"))
            )
        redactor: LineRedactor | None = None
        if redacts(story.edits, "response"):
            if response.headers.get("content-encoding", "").lower() not in _IDENTITY:
                reason = "the answer is compressed, so it cannot be redacted as the rules say"
                self.refuse(flow, story, Verdict("block", "rule", reason))
                return
            redactor = LineRedactor(story.edits, "response")
            if response.headers.pop("content-length", None) is not None and not flow.request.is_http2:
                response.headers["transfer-encoding"] = "chunked"
        model = story.model
        if model is not None:
            model.answers(
                response.headers.get("content-type", ""), response.headers.get("content-encoding", "")
            )

        def take(data: bytes) -> bytes | list[bytes]:
            if self._overspent(story, len(data)):
                return []
            story.received += len(data)
            if model is not None and data:
                model.feed(data)
            if redactor is None:
                return data
            try:
                changed = redactor.feed(data) if data else redactor.end()
            except RewriteError as error:
                self._abort(error.message)
                return []
            return [changed] if changed else []

        response.stream = take

    def refuse(self, flow: http.HTTPFlow, story: Story, verdict: Verdict, status: int = 403) -> None:
        """Answers for the upstream, and records the exchange before the answer goes out."""
        story.verdict = verdict
        story.refused = True
        flow.request.stream = False
        flow.request.headers.pop("expect", None)
        wants = "json" in flow.request.headers.get("accept", "")
        body, media = answer(verdict, method=flow.request.method, url=story.event["http"]["url"], json=wants)
        flow.response = http.Response.make(
            status,
            body,
            {"content-type": media, "x-capsule-blocked": verdict.by, "cache-control": "no-store"},
        )
        self._session.record_http(flow, story, None)


def body_event(request: http.Request, body: bytes | None) -> dict[str, Any]:
    """The `http.body` section; `long` marks a body that nobody looked at and stays in this process."""
    if body is None:
        return {"truncated": True, "long": True}
    found: dict[str, Any] = {"size": len(body), "truncated": len(body) > TEXT}
    if request.headers.get("content-encoding", "").lower() not in _IDENTITY:
        return found
    try:
        found["text"] = body[:TEXT].decode("utf-8", "strict" if len(body) <= TEXT else "ignore")
    except UnicodeDecodeError:
        return found
    if "json" in request.headers.get("content-type", "") or body[:1] in (b"{", b"["):
        try:
            found["json"] = json.loads(body)
        except (ValueError, RecursionError):
            return found
    return found


def disagreement(request: http.Request, place: Place) -> Verdict | None:
    """Why the request is for something else than the connection, or None."""
    hosts = [value for name, value in request.headers.fields if name.lower() == b"host"]
    if len(hosts) > 1:
        return Verdict("block", "name", "the request has two Host headers")
    said = [request.data.authority] if request.data.authority else []
    said += hosts
    if not said:
        return Verdict("block", "name", "the request names no host")
    for untrusted_authority in said:
        if not _is_for(untrusted_authority, place):
            shown = untrusted_authority.decode("latin-1")
            return Verdict(
                "block",
                "name",
                f"the request is for {shown!r}, the connection is to {place.name}:{place.port}",
                allow="use one name in the URL, in the TLS server name and in the Host header",
            )
    return None


def _is_for(untrusted_authority: bytes, place: Place) -> bool:
    if untrusted_authority == place.name.encode() and place.usual_port:
        return True
    try:
        host, port = parse_authority(untrusted_authority.decode("latin-1"))
    except HostError:
        return False
    return host.name == place.name and (place.usual_port if port is None else port == place.port)


def settle(request: http.Request, place: Place) -> None:
    """The request in the form that goes out: origin-form with a Host, no upgrade but WebSocket's."""
    headers = request.headers
    if not request.is_http2:
        request.authority = ""
        if "host" not in headers:
            headers.insert(0, "Host", place.name if place.usual_port else f"{place.name}:{place.port}")
    upgrade = headers.get("upgrade")
    if upgrade is not None and upgrade.lower() != "websocket":
        del headers["upgrade"]  # RFC 9110 §7.8: a server may ignore it, so nobody relies on it
        headers.pop("http2-settings", None)
    headers.pop("proxy-connection", None)
    headers.pop("proxy-authorization", None)


def _decoded(headers: http.Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.fields]


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Values as they came, and those of rules in UTF-8 where Latin-1 has not their letters."""
    found = []
    for name, value in headers:
        latin = all(ord(character) < 0x100 for character in value)
        found.append((name.encode("latin-1"), value.encode("latin-1" if latin else "utf-8")))
    return found
