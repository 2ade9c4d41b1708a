"""Asks a person for one run: whoever waits, at the terminal or through the HTTP seam, and what was answered.

The register of `asks` decides what an answer covers; this keeps time, records, and wakes who waits. Refuses nothing by
itself: no answer in time is a refusal of the register. A question whose program is gone is withdrawn.

    verdict = await asking.ask(event, judgement)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets as randomness
import time
from collections.abc import Callable
from typing import Any, Literal

from capsule.egress.asks import Answer, Ask, Asks, Outcome, Question
from capsule.egress.judgement import Judgement
from capsule.egress.recording import Recorder
from capsule.egress.verdict import Verdict


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Asking:
    """The asks of one session.

    Attributes:
        register: who waits, and what was answered before.
    """

    def __init__(
        self,
        run: str,
        command: tuple[str, ...],
        recorder: Recorder,
        tell: Callable[[dict[str, Any]], None],
        changed: Callable[[], None],
    ) -> None:
        self.register = Asks(run)
        self._command = command
        self._recorder = recorder
        self._tell = tell
        self._changed = changed
        self._answers: dict[str, asyncio.Future[Outcome]] = {}

    async def ask(self, event: dict[str, Any], judged: Judgement) -> Verdict:
        """The answer to one question, as a verdict."""
        program = event.get("program", {})
        rule = judged.verdict.rule if judged.verdict.by == "rule" else None
        question = Question(
            _told(event),
            {**rule, "reason": judged.verdict.reason} if rule is not None else None,
            program.get("path"),
            tuple(program.get("argv", ())),
            self._command,
            _content(event),
        )
        timeout = judged.asks or 0
        found = self.register.ask(question, _now_ms(), new_id=randomness.token_hex(6), timeout_ms=timeout)
        outcome = found if isinstance(found, Outcome) else await self._answer(found)
        if outcome.allowed:
            return Verdict("rewrite" if judged.edits else "allow", "ask", outcome.why, rule=rule)
        reason = f"{judged.verdict.reason}; {outcome.why}" if judged.verdict.reason else outcome.why
        allow = "answer with `capsule answer`, or at the terminal" if "nobody" in outcome.why else ""
        return Verdict("block", "ask", reason, rule=rule, allow=allow)

    async def _answer(self, ask: Ask) -> Outcome:
        future = self._answers.get(ask.id)
        if future is None:
            future = self._answers[ask.id] = asyncio.get_running_loop().create_future()
            described = self.register.describe(ask)
            fields = {
                "id": ask.id,
                "what": ask.question.what,
                "expires": ask.expires_ms,
                "rule": described["rule"],
            }
            self._recorder.write("egress.ask", {"ask": fields})
            self._tell({"type": "ask", **described})
            self._changed()
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            gone = self.register.withdraw(ask.id, _now_ms())
            if gone is not None and gone.outcome is not None:
                self._over(gone.outcome, by="nobody")
            raise

    def answer(self, ask_id: str, answer: Answer, *, by: str) -> Outcome | Literal["gone", "answered"]:
        """A person's answer."""
        outcome = self.register.answer(ask_id, answer, _now_ms(), by=by)
        if isinstance(outcome, Outcome):
            self._over(outcome, by=by)
            for ask in self.register.covered(_now_ms()):
                if ask.outcome is not None:
                    self._over(ask.outcome, by=by)
        return outcome

    def due(self) -> None:
        """Ends what nobody answered in time."""
        until = self.register.next_due()
        if until is not None and until <= _now_ms():
            for ask in self.register.due(_now_ms()):
                if ask.outcome is not None:
                    self._over(ask.outcome, by="nobody")

    def _over(self, outcome: Outcome, *, by: str) -> None:
        fields = {"id": outcome.ask_id, "allowed": outcome.allowed, "outcome": outcome.why, "by": by}
        self._recorder.write("egress.answer", {"answer": fields})
        self._tell({"type": "asked", "id": outcome.ask_id, "outcome": outcome.why})
        future = self._answers.pop(outcome.ask_id, None)
        if future is not None and not future.done():
            future.set_result(outcome)
        self._changed()


def _content(event: dict[str, Any]) -> str:
    """A digest of a request's body, or of a tool's arguments, where they are known: the answer is about these alone."""
    http, mcp = event.get("http"), event.get("mcp")
    if isinstance(mcp, dict):
        return f"{mcp.get('direction')} {mcp.get('tool_sha256')} {mcp.get('arguments_sha256')}"
    if isinstance(http, dict) and "body" in http:
        return hashlib.sha256(json.dumps(http["body"], sort_keys=True).encode()).hexdigest()
    return ""


def _told(event: dict[str, Any]) -> dict[str, Any]:
    """The event without the whole of a body: a person sees its beginning."""
    http = event.get("http")
    if not isinstance(http, dict) or "body" not in http:
        return event
    body = {key: value for key, value in http["body"].items() if key in ("size", "truncated")}
    if isinstance(text := http["body"].get("text"), str):
        body["text"] = text[:2048]
    return {**event, "http": {**http, "body": body}}
