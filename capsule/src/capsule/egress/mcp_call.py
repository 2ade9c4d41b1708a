"""The MCP messages of one HTTP exchange: found before it goes on, joined with their answers, recorded one by one.

A request or a notification is one entry `egress.mcp`, written when its answer is there, when the exchange ends without
one, or when it is refused; what the server sends by itself is one at once. Where rules on `mcp` decide, this refuses
what two readers could take for different messages: keys that stand twice or differ in case, a JSON body that is none,
is compressed or too long to be looked at. Without such rules all of that passes as HTTP.

    call = McpCall.begin(flow.request, body, story, recorder, ruled=True)     # None: it is not MCP
    for message in call.undecided(): message.verdict = …
    call.answers(headers); call.feed(chunk); call.finish(verdict, refused=False, error=None)
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from capsule.egress.mcp_message import McpExchange, ambiguity, identities
from capsule.egress.recording import now
from capsule.egress.verdict import Verdict, place

if TYPE_CHECKING:
    from mitmproxy.http import Headers, Request

    from capsule.egress.recording import Recorder
    from capsule.egress.story import Story

ERROR = -32000
"""The JSON-RPC code of a refusal: the first of those that a server may define itself (JSON-RPC 2.0 §5.1)."""
_IDENTITY = ("", "identity")
_UNTYPED = ("", "text/plain")


def may_speak(request: Request, *, ruled: bool) -> bool:
    """Whether a request's body may be a message, and is worth waiting for.

    Args:
        request: its head.
        ruled: rules on `mcp` decide here; then every POST of JSON, or of no type, is looked at.
    """
    if request.method != "POST":
        return False
    if ruled and request.headers.get("content-type", "").partition(";")[0].strip().lower() in _UNTYPED:
        return True
    if not _is_json(request):
        return False
    # A client of this transport takes both kinds of answers, and says so.
    return ruled or _certain(request) or "text/event-stream" in request.headers.get("accept", "")


@dataclass(slots=True)
class Message:
    """One request or notification of the program.

    Attributes:
        id: of its event.
        section: `mcp` of the event.
        verdict: None until it is decided.
    """

    id: str
    time: str
    started: float
    section: dict[str, Any]
    verdict: Verdict | None = None
    told: bool = False

    def event(self) -> dict[str, Any]:
        """What rules see of it, beside `run` and `program`."""
        return {"event": {"id": self.id, "type": "mcp", "time": self.time}, "mcp": self.section}


class McpCall:
    """See the module."""

    def __init__(
        self,
        exchange: McpExchange,
        events: list[dict[str, Any]],
        ids: list[Any],
        story: Story,
        recorder: Recorder,
    ) -> None:
        self._exchange = exchange
        self._recorder = recorder
        self._story = story
        self._ids = ids
        moment = time.monotonic()
        self._messages = [Message(recorder.next_id(), now(), moment, event) for event in events]
        self._session: str | None = None

    @classmethod
    def begin(
        cls, request: Request, untrusted_body: bytes | None, story: Story, recorder: Recorder, *, ruled: bool
    ) -> McpCall | Verdict | None:
        """The messages of a request; None when it is not MCP; a verdict when nobody could say.

        Args:
            request: as it goes out.
            untrusted_body: None: it was not waited for, or is longer than anybody looks at.
            story: of the HTTP exchange.
            recorder: of the session.
            ruled: rules on `mcp` decide here.
        """
        if not may_speak(request, ruled=ruled) and not _certain(request):
            return None
        exchange = McpExchange(story.event["http"]["host"], request.headers.keys())
        body = untrusted_body if request.headers.get("content-encoding", "").lower() in _IDENTITY else None
        if request.method == "POST" and ruled:
            why = _hidden(request) if body is None else ambiguity(body, certain=_is_json(request))
            if why is not None:
                allow = "send each message as plain JSON of at most 1 MiB, each key once"
                return Verdict("block", "protocol", f"a rule on mcp decides here, and {why}", allow=allow)
        events = exchange.request(body) if body and request.method == "POST" else []
        if not exchange.is_mcp:
            return None
        call = cls(exchange, events, identities(body or b""), story, recorder)
        call._meet(request.headers)
        for event in events:
            event["http_id"] = story.id
        return call

    def undecided(self) -> Iterator[Message]:
        """The messages without a verdict."""
        return (message for message in self._messages if message.verdict is None)

    def refusal(self, verdict: Verdict) -> bytes | None:
        """The answer of JSON-RPC to what is refused; None when nothing asks for one."""
        refused = next((m for m in self._messages if m.verdict is not None and not m.verdict.allowed), None)
        section = (
            refused.section if refused is not None else self._messages[0].section if self._messages else {}
        )
        return refusal(verdict, section, self._ids)

    def answers(self, headers: Headers) -> None:
        """The answer's headers."""
        self._meet(headers)
        if headers.get("content-encoding", "").lower() in _IDENTITY:
            self._exchange.answers(headers.get("content-type", ""))

    def feed(self, untrusted_chunk: bytes) -> None:
        """Some of the answer's body: what it completes is recorded."""
        self._take(self._exchange.feed(untrusted_chunk))

    def finish(self, verdict: Verdict, *, refused: bool, error: str | None) -> None:
        """The exchange is over: what has no answer is recorded without one."""
        self._take(self._exchange.finish())
        for message in self._messages:
            if message.told:
                continue
            own = message.verdict
            if refused and (own is None or own.allowed):
                message.verdict = Verdict(
                    "block", verdict.by, verdict.reason, verdict.rule, allow=verdict.allow
                )
            if error is not None:
                message.section["error"] = error
            self._tell(message)

    def _take(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event.get("direction") == "in":
                event["http_id"] = self._story.id
                self._write(event, self._story.verdict, None)
                continue
            message = next((m for m in self._messages if not m.told and _answers(event, m)), None)
            if message is not None:
                message.section.update(
                    (name, event[name]) for name in ("error", "result_size") if name in event
                )
                message.section["duration_us"] = int((time.monotonic() - message.started) * 1e6)
                self._tell(message)

    def _tell(self, message: Message) -> None:
        message.told = True
        self._write(message.section, message.verdict or self._story.verdict, message)

    def _write(self, section: dict[str, Any], verdict: Verdict, message: Message | None) -> None:
        if self._session is not None:
            section["session"] = self._session
        fields: dict[str, Any] = {"event": message.event()["event"]} if message is not None else {}
        section.pop("arguments", None)  # they may hold anything: the log has their size and digest
        if "program" in self._story.event:
            fields["program"] = self._story.event["program"]
        fields |= {"mcp": section, "decision": verdict.entry()}
        self._recorder.write("egress.mcp", fields, event_id=message.id if message is not None else None)

    def _meet(self, headers: Headers) -> None:
        """Takes the session's name; its value would let another one speak in it, so it is not told."""
        named = headers.get("mcp-session-id", "")
        if named:
            self._session = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:16]
            for message in self._messages:
                message.section.setdefault("session", self._session)


def refusal(verdict: Verdict, section: dict[str, Any], ids: list[Any]) -> bytes | None:
    """What JSON-RPC answers to requests that are refused, a line; None when nothing asks for it.

    Args:
        verdict: why.
        section: `mcp` of the message that it is about.
        ids: of the requests.
    """
    if not ids:
        return None
    rule = verdict.rule.get("id") if verdict.rule is not None else None
    said: dict[str, Any] = {"by": verdict.by, "reason": verdict.reason, "rule": rule, "allow": verdict.allow}
    said["place"] = place(verdict.rule)
    what = " ".join(str(section[name]) for name in ("method", "tool") if name in section)
    where = f" (rule {rule}{', ' + said['place'] if said['place'] else ''})" if rule else ""
    text = f"capsule blocked {what or 'the request'}: {verdict.reason or verdict.by}{where}"
    error = {
        "code": ERROR,
        "message": text,
        "data": {name: value for name, value in said.items() if value},
    }
    answers = [{"jsonrpc": "2.0", "id": identity, "error": error} for identity in ids]
    return json.dumps(answers[0] if len(answers) == 1 else answers).encode() + b"\n"


def _answers(event: dict[str, Any], message: Message) -> bool:
    return bool(message.section.get("request_id") == event.get("request_id"))


def _is_json(request: Request) -> bool:
    return "json" in request.headers.get("content-type", "").lower()


def _certain(request: Request) -> bool:
    return any(name.lower().startswith("mcp-") for name in request.headers)


def _hidden(request: Request) -> str | None:
    """Why a body that was not looked at cannot be let through."""
    if not _is_json(request) and not _certain(request):
        return None
    if request.headers.get("content-encoding", "").lower() not in _IDENTITY:
        return "a compressed body is not looked at"
    return "the body is longer than is looked at"
