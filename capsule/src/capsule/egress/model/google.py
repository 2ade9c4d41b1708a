"""`generateContent` and `streamGenerateContent`: the model is in the path, a stream is events or one JSON array.

Thoughts are counted apart there; an event's output counts them in.

    Generate().request({"contents": []}, "/v1beta/models/gemini-x:generateContent").name      # "gemini-x"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from capsule.egress.model.shape import (
    Answer,
    Request,
    count,
    failure,
    items,
    several,
    size,
    text,
    total,
    under,
)
from capsule.egress.model.tools import declared

PATH = re.compile(r"/models/([^/:?]{1,200}):(generateContent|streamGenerateContent)$", re.IGNORECASE)
# Servers read both spellings of a name; of two that differ the larger one may hold.
_SETTINGS = ("generationConfig", "generation_config")
_MOST = ("maxOutputTokens", "max_output_tokens")
_ANSWERS = ("candidateCount", "candidate_count")


class Generate:
    """See the module."""

    api = "generate"

    def request(self, untrusted: Mapping[str, Any], path: str) -> Request | None:
        """See `Dialect`."""
        found = PATH.search(path)
        contents = under(untrusted, "contents")
        tools = declared(untrusted)
        if found is None or not isinstance(contents, list) or tools is None:
            return None
        settings = [under(untrusted, name) for name in _SETTINGS]
        system = under(untrusted, "systemInstruction") or under(untrusted, "system_instruction")
        answered = (
            text(part, "functionResponse", "id") or text(part, "functionResponse", "name")
            for content in items(untrusted, "contents")
            for part in items(content, "parts")
            if "functionResponse" in part
        )
        return Request(
            name=found[1],
            stream=found[2] == "streamGenerateContent",
            system_size=size(system),
            messages=tuple(contents),
            tools=tools.names,
            servers=tools.servers,
            max_tokens=max((count(asked, name) or 0 for asked in settings for name in _MOST), default=0)
            or None,
            answered=tuple(name for name in answered if name),
            answers=max(several(asked, name) for asked in settings for name in _ANSWERS),
        )

    def whole(self, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        self.part("message", untrusted, answer)

    def part(self, name: str, untrusted: Mapping[str, Any], answer: Answer) -> None:  # noqa: ARG002
        """See `Dialect`."""
        if untrusted.get("error") is not None:
            answer.error, answer.understood = failure(untrusted["error"]), True
        answer.name = text(untrusted, "modelVersion") or answer.name
        answer.response_id = text(untrusted, "responseId") or answer.response_id
        blocked = text(untrusted, "promptFeedback", "blockReason")
        if blocked:
            answer.stop_reason, answer.understood = blocked, True
        for candidate in items(untrusted, "candidates"):
            answer.understood = True
            answer.stop_reason = text(candidate, "finishReason") or answer.stop_reason
            for part in items(candidate, "content", "parts"):
                answer.written += size(part.get("text")) + size(under(part, "functionCall", "args"))
                if isinstance(part.get("functionCall"), dict):
                    # Each arrives whole; there is no index, and an id only sometimes.
                    call = answer.tool(len(answer.tools))
                    call.id, call.name = text(part, "functionCall", "id"), text(part, "functionCall", "name")
                    call.arguments_size = size(under(part, "functionCall", "args"))
        usage = under(untrusted, "usageMetadata")
        if count(usage, "promptTokenCount") is not None:
            answer.understood = True
            answer.input_tokens = count(usage, "promptTokenCount")
            answer.cached_tokens = count(usage, "cachedContentTokenCount")
            answer.reasoning_tokens = count(usage, "thoughtsTokenCount")
            answer.output_tokens = total(count(usage, "candidatesTokenCount"), answer.reasoning_tokens)
