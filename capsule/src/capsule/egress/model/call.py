"""One model call: recognised by its host, path and body, followed through its answer, told as an event.

Unknown shapes pass and are told as unknown; nothing here raises on what a peer sent. Bodies come decoded of their
transfer coding; gzip and deflate are taken off here, other codings make the answer unknown.

    call = ModelCall.begin("models.example", "/v1/chat/completions", untrusted_body)
    call.answers("text/event-stream", "")
    call.feed(untrusted_chunk)
    call.event()
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from capsule.egress.model.anthropic import Messages
from capsule.egress.model.google import PATH as GOOGLE_PATH
from capsule.egress.model.google import Generate
from capsule.egress.model.ollama import NativeChat, NativeGenerate
from capsule.egress.model.openai import Chat, Completions, Responses
from capsule.egress.model.shape import Answer, Dialect, Request, loads
from capsule.egress.model.sse import EventStream
from capsule.egress.model.tools import SEEN
from capsule.policy.urlpath import readings

MAX_ANSWER: Final = 8 << 20
"""Bytes of an answer that comes in one piece and is still looked at."""
MAX_DECODED: Final = 64 << 20
"""Bytes of an answer whose coding was taken off that are still looked at: a little can be made to grow into much."""

_PROVIDERS: Final = (
    ("api.anthropic.com", "anthropic"),
    ("api.openai.com", "openai"),
    ("generativelanguage.googleapis.com", "google"),
)
_VERTEX: Final = "aiplatform.googleapis.com"


_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_CODINGS: Final = _PACKED | {"identity"}
_ASKED: Final = frozenset(
    {
        "provider",
        "api",
        "name",
        "stream",
        "system_size",
        "messages",
        "tools",
        "mcp_servers",
        "max_tokens",
        "tool_results",
    }
)


def provider_of(host: str) -> str | None:
    """The provider whose host this is; None for every other."""
    for name, provider in _PROVIDERS:
        if host == name:
            return provider
    return "google" if host == _VERTEX or host.endswith("-" + _VERTEX) else None


def readable(codings: str) -> str:
    """Of the content codings that a program accepts, those in which an answer can be followed."""
    offered = [part.strip() for part in codings.split(",")]
    kept = [part for part in offered if part.partition(";")[0].strip().lower() in _CODINGS]
    return ", ".join(kept) or "identity"


def _no_call(untrusted_body: bytes | None, untrusted: object, *, plain: bool) -> bool:
    """Whether a body that was read says that it asks no model; one that two servers may read differently does not."""
    return untrusted_body == b"" or (
        plain
        and isinstance(untrusted, dict)
        and not untrusted.keys() & {"messages", "input", "contents", "prompt"}
    )


def dialect_of(target: str) -> Dialect | None:
    """The API that a path belongs to, wherever it is served and however it is spelled; None for no model call."""
    found = _recognised(target)
    return None if found is None else found[0]


def _recognised(target: str) -> tuple[Dialect, str] | None:
    """The API, and the reading of the path that belongs to it: what any server might take for a call is one."""
    for path in readings(target):
        lower = path.lower()
        if lower.endswith(("/v1/messages", ":rawpredict", ":streamrawpredict")):
            return Messages(), path
        if lower.endswith("/chat/completions"):
            return Chat(), path
        if lower.endswith("/completions"):
            return Completions(), path
        if lower.endswith("/v1/responses"):
            return Responses(), path
        if lower.endswith("/api/chat"):
            return NativeChat(), path
        if lower.endswith("/api/generate"):
            return NativeGenerate(), path
        if GOOGLE_PATH.search(path):
            return Generate(), path
    return None


@dataclass(frozen=True, slots=True)
class Use:
    """What a call is held to have used; not `exact`: at least that."""

    answer: Answer
    exact: bool


@dataclass(slots=True)
class ModelCall:
    """See the module.

    Attributes:
        provider: `anthropic`, `openai`, `google` or `compatible`.
        request: what was asked; None when the body was not understood.
        tentative: only its path speaks for it, as its body could not be read: its answer says what it was.
    """

    provider: str
    dialect: Dialect
    request: Request | None
    tentative: bool = False
    answer: Answer = field(default_factory=Answer)
    _coding: Any = None
    _form: str = "whole"
    _events: EventStream = field(default_factory=EventStream)
    _held: bytearray = field(default_factory=bytearray)
    _lost: bool = False
    _decoded: int = 0
    _fed: int = 0
    _status: int = 200

    @classmethod
    def begin(cls, host: str, path: str, untrusted_body: bytes | None) -> ModelCall | None:
        """A call when host and path say so; `untrusted_body` None means that it was not looked at.

        A body that nobody could read is a call wherever it goes, until its answer tells otherwise. Only POST requests
        are calls; the caller asks for no others.
        """
        recognised = _recognised(path)
        if recognised is None:
            return None
        dialect, read = recognised
        untrusted = loads(untrusted_body) if untrusted_body else None
        plain = isinstance(untrusted, dict) and not any(
            key not in SEEN and key.casefold() in SEEN for key in untrusted
        )
        request = dialect.request(untrusted, read) if plain and isinstance(untrusted, dict) else None
        provider = provider_of(host)
        if provider is None and request is None and _no_call(untrusted_body, untrusted, plain=plain):
            return None
        return cls(provider or "compatible", dialect, request, provider is None and request is None)

    def answers(self, content_type: str, content_encoding: str, status: int = 200) -> None:
        """The answer's headers."""
        self._status = status
        kind = content_type.partition(";")[0].strip().lower()
        coding = content_encoding.strip().lower()
        if coding in _PACKED:
            self._coding = zlib.decompressobj(wbits=47)
        elif coding not in _CODINGS - _PACKED | {""}:
            self._lost = True
        if kind == "text/event-stream":
            self._form = "events"
        elif kind in {"application/x-ndjson", "application/jsonl"}:
            self._form = "lines"

    def feed(self, untrusted_chunk: bytes) -> None:
        """Some of the answer's body."""
        self._fed += len(untrusted_chunk)
        if self._lost:
            return
        if self._coding is not None:
            try:
                # In pieces, so that a small chunk cannot become a large one.
                while untrusted_chunk and not self._lost:
                    data = self._coding.decompress(untrusted_chunk, 1 << 20)
                    self._decoded += len(data)
                    self._lost = self._decoded > MAX_DECODED
                    self._take(data)
                    untrusted_chunk = self._coding.unconsumed_tail
            except zlib.error:
                self._lost = True
        else:
            self._take(untrusted_chunk)

    def _take(self, data: bytes) -> None:
        if self._form == "events":
            for event in self._events.feed(data):
                untrusted = loads(event.data)
                if isinstance(untrusted, dict):
                    self.dialect.part(event.name, untrusted, self.answer)
            self._lost = self._lost or self._events.overflown
            return
        self._held += data
        if self._form == "lines" and b"\n" in data:
            *lines, rest = self._held.split(b"\n")
            self._held = bytearray(rest)
            for line in lines:
                self._line(bytes(line))
        if len(self._held) > MAX_ANSWER:
            self._held.clear()
            self._lost = True

    def _line(self, line: bytes) -> None:
        untrusted = loads(line)
        if isinstance(untrusted, dict):
            self.dialect.part("message", untrusted, self.answer)

    def _finish(self) -> None:
        if self._form == "lines" and self._held:
            self._line(bytes(self._held))
        elif self._form == "whole" and self._held and not self._lost:
            untrusted = loads(bytes(self._held))
            if isinstance(untrusted, dict):
                self.dialect.whole(untrusted, self.answer)
            elif isinstance(untrusted, list):
                # A stream of Google's that was not asked for as events is one array.
                for item in untrusted:
                    if isinstance(item, dict):
                        self.dialect.part("message", item, self.answer)
        self._held.clear()

    def is_one(self, *, cut: bool) -> bool:
        """Whether it was a call at all: a tentative one is none when a whole answer was read and is no model's."""
        self._finish()
        return not self.tentative or self.answer.understood or self._lost or cut

    def used(self, size: int, *, cut: bool) -> Use:
        """What it is held to have used; a provider's count stands, but only where it is of all that was written.

        An answer that ended early, or that says no count, is counted by what came of it, a token for four bytes.

        Args:
            size: of its body, in bytes.
            cut: it did not come to its end.
        """
        answer = self.answer
        nothing = answer.input_tokens is None and answer.output_tokens is None and not answer.written
        if not self.is_one(cut=cut) or (self._status >= 400 and nothing):
            return Use(Answer(input_tokens=0, output_tokens=0), exact=True)
        known = answer.input_tokens is not None and answer.output_tokens is not None
        ended = answer.stop_reason is not None or (self._form == "whole" and not cut)
        if known and ended and not self._lost:
            return Use(answer, exact=True)
        read = self._form != "whole" and answer.understood and not self._lost
        seen = -(-(answer.written if read else max(answer.written, self._fed)) // 4)
        return Use(
            replace(
                answer,
                input_tokens=size // 4 if answer.input_tokens is None else answer.input_tokens,
                output_tokens=max(answer.output_tokens or 0, seen),
            ),
            exact=known,
        )

    def event(self) -> dict[str, Any]:
        """The `model` section of the event (docs/formats/events.md), without cost, ids and links; ends the call."""
        self._finish()
        request, answer = self.request, self.answer
        known: Mapping[str, object] = {
            "provider": self.provider,
            "api": self.dialect.api,
            "name": (request.name if request else None) or answer.name,
            "stream": request.stream if request else None,
            "system_size": request.system_size if request else None,
            "messages": len(request.messages) if request else None,
            "tools": list(request.tools) if request else None,
            "mcp_servers": list(request.servers) or None if request else None,
            "max_tokens": request.max_tokens if request else None,
            "tool_results": list(request.answered) if request else None,
            "input_tokens": answer.input_tokens,
            "cached_tokens": answer.cached_tokens,
            "cache_write_tokens": answer.cache_write_tokens,
            "output_tokens": answer.output_tokens,
            "reasoning_tokens": answer.reasoning_tokens,
            "stop_reason": answer.stop_reason,
            "response_id": answer.response_id,
            "error": answer.error,
            "tool_calls": [
                {
                    name: value
                    for name, value in (
                        ("id", call.id),
                        ("name", call.name),
                        ("arguments_size", call.arguments_size),
                    )
                    if value is not None
                }
                for call in answer.tools.values()
            ],
            "unknown": request is None or not answer.understood or self._lost,
        }
        return {name: value for name, value in known.items() if value is not None}

    def asked(self) -> dict[str, Any]:
        """The `model` section as far as it is known before the call goes out; what is not understood is absent."""
        if self.request is None:
            return {"provider": self.provider, "api": self.dialect.api}
        known = {name: value for name, value in self.event().items() if name in _ASKED}
        return {**known, "mcp_servers": list(self.request.servers)}
