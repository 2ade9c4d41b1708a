"""The way of an answer back: decided at its head, freed of secrets' values, edited by rules, counted.

Needs Python 3.12 and mitmproxy 12. Refuses an answer that must be looked at and cannot be (`returning`); one that was
begun already ends with its connection.

    answering = Answering(session, filling=filling, spending=spending, guard=guard, abort=abort, refuse=refuse)
    waiting = answering.answered(flow, story)     # None: decided; else to be awaited
    answering.complete(flow, story)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mitmproxy import http

from capsule.egress.envelope import coding as messages_coding
from capsule.egress.envelope import enveloped
from capsule.egress.events import response_event
from capsule.egress.forms import decoded, encoded
from capsule.egress.judgement import Judgement
from capsule.egress.returning import Returning
from capsule.egress.story import Story
from capsule.egress.verdict import BLOCKED, By, Verdict
from capsule.rules.rewrite import RewriteError, edit_headers, edits_body, redacts

if TYPE_CHECKING:
    from capsule.egress.echoes import Echoes
    from capsule.egress.filling import Filling
    from capsule.egress.guarding import Guard
    from capsule.egress.metering import Spending
    from capsule.egress.session import Session

_BODYLESS = frozenset({101, 204, 304})


class Answering:
    """The answers of one connection.

    Args:
        session: of the run.
        filling: its secrets; None without.
        spending: its bytes.
        guard: frees heads of secrets' values.
        abort: ends the connection.
        refuse: answers for the upstream.
    """

    def __init__(
        self,
        session: Session,
        *,
        filling: Filling | None,
        spending: Spending,
        guard: Guard,
        abort: Callable[[str], None],
        refuse: Callable[[http.HTTPFlow, Story, Verdict], None],
    ) -> None:
        self._session = session
        self._filling = filling
        self._spending = spending
        self._guard = guard
        self._abort = abort
        self._refuse = refuse

    def answered(self, flow: http.HTTPFlow, story: Story) -> Awaitable[None] | None:
        """The decision at the answer's headers."""
        assert flow.response is not None
        flow.response.headers.pop(BLOCKED, None)  # with it an upstream's words would pass for ours
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
            self._refuse(flow, story, judged.verdict)
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
            self._refuse(flow, story, verdict)

    def _receive(self, flow: http.HTTPFlow, story: Story) -> None:
        response = flow.response
        assert response is not None
        if story.edits:
            response.headers = http.Headers(
                encoded(edit_headers(story.edits, decoded(response.headers), "response"))
            )
        echoes = self._filling.echoes() if self._filling is not None else None
        if story.redacted:
            story.notes["redacted"] = story.redacted
        model = story.model
        coding = response.headers.get("content-encoding", "")
        if model is not None:
            model.answers(response.headers.get("content-type", ""), coding, response.status_code)
        if story.mcp is not None:
            story.mcp.answers(response.headers)
        try:
            body = _reader(flow, story, echoes, coding)
        except RewriteError as error:
            by: By = "rule" if redacts(story.edits, "response") else "secret"
            self._refuse(flow, story, Verdict("block", by, error.message, allow=error.next_step or ""))
            return

        def take(data: bytes) -> bytes | list[bytes]:
            ended = not data
            data = self._spending.affordable(story, data)
            if not data and not ended:
                return []
            story.received += len(data)
            if model is not None and data:
                model.feed(data)
            if story.mcp is not None and data:
                story.mcp.feed(data)
            if body is None:
                return data
            try:
                changed = body.feed(data) if data else body.end()
            except RewriteError as error:
                self._abort(error.message)
                return []
            self._counted(story, body)
            return [changed] if changed else []

        if body is None or body.idle:
            response.stream = take
        elif body.whole:
            response.stream = False
            story.returning = body
        else:
            response.stream = take
            if body.decoded:
                del response.headers["content-encoding"]
            dropped = not body.keeps_length and response.headers.pop("content-length", None) is not None
            if dropped and not flow.request.is_http2:
                response.headers["transfer-encoding"] = "chunked"

    def _counted(self, story: Story, body: Returning) -> None:
        if body.redacted:
            story.notes["redacted"] = story.redacted + body.redacted

    def complete(self, flow: http.HTTPFlow, story: Story) -> None:
        """An answer that was waited for, or its trailers, are complete."""
        response = flow.response
        assert response is not None
        body, story.returning = story.returning, None
        if body is not None:
            data = response.raw_content or b""
            if self._spending.overspent(story, len(data)):
                return
            story.received = len(data)
            if story.model is not None:
                story.model.feed(data)
            if story.mcp is not None:
                story.mcp.feed(data)
            try:
                response.raw_content = body.feed(data) + body.end()
            except RewriteError as error:
                by: By = "rule" if story.edits else "secret"
                self._refuse(flow, story, Verdict("block", by, error.message, allow=error.next_step or ""))
                return
            response.headers["content-length"] = str(len(response.raw_content))
            self._counted(story, body)
        if response.trailers is not None and (found := self._guard.fields(response.trailers)):
            story.notes["redacted"] = story.notes.get("redacted", 0) + found


def _reader(flow: http.HTTPFlow, story: Story, echoes: Echoes | None, coding: str) -> Returning | None:
    """Who reads the answer's body; None: nobody need."""
    response = flow.response
    assert response is not None
    if flow.request.method == "HEAD" or response.status_code in _BODYLESS:
        return None
    if not (edits_body(story.edits, "response") or echoes):
        return None
    kind = response.headers.get("content-type", "")
    if echoes and enveloped(kind) and (packed := messages_coding(response.headers)):
        raise RewriteError(
            f"its messages came as {packed[:40]!r}, though they were asked for as they are, and cannot be looked at",
            next_step="let the upstream send its messages without compression",
        )
    length = response.headers.get("content-length", "")
    known = int(length) if length.isascii() and length.isdigit() else None
    return Returning(story.edits, echoes, kind, coding, length=known)
