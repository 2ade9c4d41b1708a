"""The way of one request through its decisions: at the head, and with the body when something reads it.

Needs Python 3.12 and mitmproxy 12. Refuses a request that is for another host than its connection, and whatever the
judge refuses; a refused request is answered here and nothing of it leaves. What comes back is `answering`'s. A body
that an edit must change has to fit `layers.BODY_LIMIT` and be without content coding, else the request is refused
rather than sent unchanged.

    waiting = deciding.head(flow, story)      # None: decided; else to be awaited
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mitmproxy import http

from capsule.egress.addressed import disagreement
from capsule.egress.answering import Answering
from capsule.egress.budget import Exhausted
from capsule.egress.envelope import accepted_codings
from capsule.egress.filling import Filling
from capsule.egress.forms import (
    IDENTITY,
    SHORT,
    body_event,
    decoded,
    encoded,
    head_size,
    may_be_short,
    settle,
)
from capsule.egress.judgement import Judgement
from capsule.egress.kinds import kinds_of
from capsule.egress.layers import LIMIT
from capsule.egress.mcp_call import McpCall, may_speak
from capsule.egress.metering import Spending, wants_body
from capsule.egress.methods import Fields, Names, UnclearError, Uploads, asked, kind_of
from capsule.egress.model.call import readable
from capsule.egress.story import Place, Story
from capsule.egress.upgrade import request_problem
from capsule.egress.verdict import BLOCKED, Verdict, answer
from capsule.rules.rewrite import (
    RewriteError,
    edit_body,
    edit_headers,
    edit_query,
    edits_body,
)

if TYPE_CHECKING:
    from capsule.egress.guarding import Guard
    from capsule.egress.session import Session


class Deciding:
    """The decisions of one connection."""

    def __init__(self, session: Session, place: Place, abort: Callable[[str], None], guard: Guard) -> None:
        self._session = session
        self._place = place
        self._abort = abort
        self._guard = guard
        self._filling = Filling(session.vault, place) if session.vault is not None else None
        self._spending = Spending(session.meter, abort)
        self.answers = Answering(
            session,
            filling=self._filling,
            spending=self._spending,
            guard=guard,
            abort=abort,
            refuse=self.refuse,
        )

    def head(self, flow: http.HTTPFlow, story: Story) -> Awaitable[None] | None:
        """The decision at the request's headers."""
        problem = disagreement(flow.request, self._place)
        if problem is not None:
            self.refuse(flow, story, problem)
            return None
        settle(flow.request, self._place)
        if story.event["http"].get("websocket"):
            request = flow.request
            wrong = request_problem(request.method, request.http_version, request.headers)
            if wrong is not None:
                self.refuse(flow, story, Verdict("block", "protocol", wrong), status=400)
                return None
            if self._filling is not None:
                request.headers.pop("sec-websocket-extensions", None)  # compressed frames cannot be searched
        if self._filling is not None and (carried := self._filling.carried(flow.request)):
            story.event["http"]["secret"] = carried
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
        flow.metadata["private"] = judged.entry is not None and judged.entry.private
        story.edits += judged.edits
        body = story.event["http"].get("body")
        filling = self._filling is not None and self._filling.wants_body(judged.entry)
        modelled = wants_body(flow.request.method, flow.request.path)
        ruled = self._session.judge.decides_messages(self._place.name)
        spoken = self._place.messages and may_speak(flow.request, ruled=ruled)
        # A body that is at hand anyway is looked through before anything goes out: then the answer can say why.
        short = self._filling is not None and may_be_short(flow.request)
        needed = filling or modelled or spoken or edits_body(story.edits, "request")
        needed = needed or self._heeded(flow.request, story) not in {None, "spoken"}
        if body is None and (needed or short):
            flow.metadata[LIMIT] = None if needed else SHORT
            self._wait(flow, story, pending=False)
            return None
        whole = body is not None and not body.get("long")
        return self._send(flow, story, flow.request.raw_content if whole else None)

    def _send(self, flow: http.HTTPFlow, story: Story, body: bytes | None) -> Awaitable[None] | None:
        """Everything is decided: the request as it goes out."""
        if (refused := self._asked_in_body(flow.request, story, body)) is not None:
            self.refuse(flow, story, refused)
            return None
        try:
            self._edit(flow, story, body)
        except RewriteError as error:
            self.refuse(flow, story, Verdict("block", "rule", error.message, rule=story.verdict.rule))
            return None
        if story.mcp is None and self._place.messages:
            ruled = self._session.judge.decides_messages(self._place.name)
            content = flow.request.raw_content if body is not None else None
            call = McpCall.begin(flow.request, content, story, self._session.recorder, ruled=ruled)
            if isinstance(call, Verdict):
                self.refuse(flow, story, call)
                return None
            story.mcp = call
        if story.mcp is not None:
            return self._decide_messages(flow, story, story.mcp, body)
        return self._decide_kinds(flow, story, body)

    def _heeded(self, request: http.Request, story: Story) -> str | None:
        """What kind the body is of, when it may ask for a method and that decides something."""
        kind = kind_of(request.headers.get("content-type", ""))
        heeds = kind is not None and self._session.judge.heeds_methods(story.event, story.entry)
        return kind if heeds else None

    def _names(self, request: http.Request, story: Story) -> Uploads | Names | Fields | None:
        """What looks at the names in a body that nobody looks at whole, where one decides anything."""
        match self._heeded(request, story):
            case None:
                return None
            case "multipart":
                return Uploads()
            case "untyped":
                return Fields()
            case kind:
                return Names(framed=kind == "spoken")

    def _asked_in_body(self, request: http.Request, story: Story, body: bytes | None) -> Verdict | None:
        if self._heeded(request, story) is None:
            return None
        coding = request.headers.get("content-encoding", "")
        try:
            methods = asked(request.headers.get("content-type", ""), body, coding)
        except UnclearError as error:
            allow = "send it as JSON or multipart/form-data, without content coding; or name no methods for the host"
            return Verdict("block", "grant", str(error), allow=allow)
        return self._session.judge.asked_in_body(story.event, methods, story.entry)

    def _decide_kinds(self, flow: http.HTTPFlow, story: Story, body: bytes | None) -> Awaitable[None] | None:
        """Rules on `model` and `websocket`, when the request is one of these too."""
        judge, request = self._session.judge, flow.request
        if story.kinds is None:
            story.model = self._session.meter.begin(request.method, self._place.name, request.path, body)
            story.kinds = kinds_of(story, judge.rules, request.method, request.path)
        while story.kinds:
            event = story.kinds.pop()
            judged = judge.message(event, story.verdict, story.entry)
            self._session.note(judged.findings, story)
            if judged.asks is not None:
                return self._ask_kind(flow, story, judged, body, event)
            if not judged.verdict.allowed:
                self.refuse(flow, story, judged.verdict)
                return None
        return self._carry(flow, story, body)

    async def _ask_kind(
        self, flow: http.HTTPFlow, story: Story, judged: Judgement, body: bytes | None, event: dict[str, Any]
    ) -> None:
        verdict = await self._session.ask(event, judged)
        if not verdict.allowed:
            self.refuse(flow, story, verdict)
        elif (waiting := self._decide_kinds(flow, story, body)) is not None:
            await waiting

    def _decide_messages(
        self, flow: http.HTTPFlow, story: Story, call: McpCall, body: bytes | None
    ) -> Awaitable[None] | None:
        """Rules on `mcp`, message by message; one that is refused keeps all of them in."""
        flow.request.headers["accept-encoding"] = "identity"
        for message in call.undecided():
            event = {**story.event, **message.event()}
            judged = self._session.judge.message(event, story.verdict, story.entry)
            self._session.note(judged.findings, message)
            if judged.asks is not None:
                return self._ask_message(flow, story, judged, body, event)
            message.verdict = judged.verdict
            if not judged.verdict.allowed:
                self.refuse(flow, story, judged.verdict)
                return None
        return self._decide_kinds(flow, story, body)

    async def _ask_message(
        self,
        flow: http.HTTPFlow,
        story: Story,
        judged: Judgement,
        body: bytes | None,
        event: dict[str, Any],
    ) -> None:
        assert story.mcp is not None
        message = next(story.mcp.undecided())
        message.verdict = verdict = await self._session.ask(event, judged)
        if not verdict.allowed:
            self.refuse(flow, story, verdict)
        elif (waiting := self._decide_messages(flow, story, story.mcp, body)) is not None:
            await waiting

    def _carry(self, flow: http.HTTPFlow, story: Story, body: bytes | None) -> Awaitable[None] | None:
        """What it costs and the secrets that go into it, last."""
        request = flow.request
        if story.model is not None and "accept-encoding" in request.headers:
            request.headers["accept-encoding"] = readable(request.headers["accept-encoding"])
        if story.taken is None:
            if story.event["http"].get("websocket"):
                uncounted = self._session.meter.uncounted(self._place.name, request.path)
                if uncounted is not None:
                    verdict = Verdict("block", "budget", uncounted.reason, allow=uncounted.allow)
                    self.refuse(flow, story, verdict)
                    return None
            taken = self._session.meter.reserve(story.model, None if body is None else len(body))
            if isinstance(taken, Exhausted):
                self.refuse(flow, story, Verdict("block", "budget", taken.reason, allow=taken.allow))
                return None
            story.taken = taken
            if (spent := self._session.meter.spend(head_size(request))) is not None:
                self.refuse(flow, story, Verdict("block", "budget", spent.reason, allow=spent.allow))
                return None
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
        names = self._names(request, story)

        def count(data: bytes) -> bytes | list[bytes]:
            if scanner is not None and (seen := scanner.feed(data)):
                reason = f"secret elsewhere: the placeholder of {', '.join(sorted(seen))} stands in the body"
                story.verdict = Verdict("block", "secret", reason)
                self._abort(reason)
                return []
            if names is not None and names.feed(data):
                reason = "it may have a field _method, in a body that is too long to know what that asks for"
                story.verdict = Verdict("block", "grant", reason)
                self._abort(reason)
                return []
            data = self._spending.affordable(story, data)
            story.sent += len(data)
            return data or []

        flow.request.stream = count
        return None

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
        reads = edits_body(possible, "response")
        if reads or (self._filling is not None and self._filling.echoes()):
            request.headers["accept-encoding"] = "identity"
            for name in tuple(accepted_codings(request.headers)):
                request.headers[name] = "identity"
        if not story.edits:
            return
        request.headers = http.Headers(
            encoded(edit_headers(story.edits, decoded(request.headers), "request"))
        )
        path, mark, query = request.path.partition("?")
        changed = edit_query(story.edits, query)
        if changed != query or mark:
            request.path = f"{path}?{changed}" if changed else path
        if not edits_body(story.edits, "request"):
            return
        if body is None:
            raise RewriteError("the body is too long to be changed", next_step="take the rule off this host")
        if request.headers.get("content-encoding", "").lower() not in IDENTITY:
            raise RewriteError(
                "a compressed body cannot be changed", next_step="send it without content coding"
            )
        request.content = edit_body(story.edits, body, "request")

    def refuse(self, flow: http.HTTPFlow, story: Story, verdict: Verdict, status: int = 403) -> None:
        """Answers for the upstream, and records the exchange before the answer goes out."""
        story.verdict = verdict
        story.refused = True
        if story.model is None and verdict.by != "protocol":
            # A call that is kept in is a call too; its body is known when a decision waited for it.
            known = not story.event["http"].get("body", {"long": True}).get("long")
            content = flow.request.raw_content if known else None
            request = flow.request
            story.model = self._session.meter.begin(request.method, self._place.name, request.path, content)
        flow.request.stream = False
        flow.request.headers.pop("expect", None)
        wants = "json" in flow.request.headers.get("accept", "")
        body, media = answer(verdict, method=flow.request.method, url=story.event["http"]["url"], json=wants)
        spoken = story.mcp.refusal(verdict) if story.mcp is not None else None
        if spoken is not None:  # a client of MCP shows an error of its protocol, and hides one of HTTP
            status, body, media = 200, spoken, "application/json"
        body = self._guard.text(body.decode()).encode()
        flow.response = http.Response.make(
            status,
            body,
            {"content-type": media, BLOCKED: verdict.by, "cache-control": "no-store"},
        )
        self._session.record_http(flow, story, None)
