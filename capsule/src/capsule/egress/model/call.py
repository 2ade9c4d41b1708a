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
from dataclasses import dataclass, field
from typing import Any, Final

from capsule.egress.model.anthropic import Messages
from capsule.egress.model.google import PATH as GOOGLE_PATH
from capsule.egress.model.google import Generate
from capsule.egress.model.ollama import NativeChat
from capsule.egress.model.openai import Chat, Responses
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
        if lower.endswith("/v1/responses"):
            return Responses(), path
        if lower.endswith("/api/chat"):
            return NativeChat(), path
        if GOOGLE_PATH.search(path):
            return Generate(), path
    return None


@dataclass(slots=True)
class ModelCall:
    """See the module.

    Attributes:
        provider: `anthropic`, `openai`, `google` or `compatible`.
        request: what was asked; None when the body was not understood.
    """

    provider: str
    dialect: Dialect
    request: Request | None
    answer: Answer = field(default_factory=Answer)
    _coding: Any = None
    _form: str = "whole"
    _events: EventStream = field(default_factory=EventStream)
    _held: bytearray = field(default_factory=bytearray)
    _lost: bool = False
    _decoded: int = 0

    @classmethod
    def begin(cls, host: str, path: str, untrusted_body: bytes | None) -> ModelCall | None:
        """A call when host and path say so; `untrusted_body` None means that it was not looked at.

        Only POST requests are calls; the caller asks for no others.
        """
        recognised = _recognised(path)
        if recognised is None:
            return None
        dialect, read = recognised
        untrusted = loads(untrusted_body) if untrusted_body else None
        request = (
            dialect.request(untrusted, read)
            if isinstance(untrusted, dict)
            and not any(key not in SEEN and key.casefold() in SEEN for key in untrusted)
            else None
        )
        provider = provider_of(host)
        if provider is None and request is None:
            return None
        return cls(provider or "compatible", dialect, request)

    def answers(self, content_type: str, content_encoding: str) -> None:
        """The answer's headers."""
        kind = content_type.partition(";")[0].strip().lower()
        coding = content_encoding.strip().lower()
        if coding in {"gzip", "x-gzip", "deflate"}:
            self._coding = zlib.decompressobj(wbits=47)
        elif coding not in {"", "identity"}:
            self._lost = True
        if kind == "text/event-stream":
            self._form = "events"
        elif kind in {"application/x-ndjson", "application/jsonl"}:
            self._form = "lines"

    def feed(self, untrusted_chunk: bytes) -> None:
        """Some of the answer's body."""
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
