"""The native APIs of Ollama, chat and generate: lines of JSON, the last one with the counts.

NativeChat().part("message", {"done": True, "prompt_eval_count": 26, "eval_count": 7}, answer)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capsule.egress.model.shape import Answer, Request, count, failure, items, size, text, under
from capsule.egress.model.tools import offered, prompted


class NativeChat:
    """`/api/chat`."""

    api = "chat"

    def request(self, untrusted: Mapping[str, Any], path: str) -> Request | None:  # noqa: ARG002
        """See `Dialect`."""
        messages = under(untrusted, "messages")
        tools = offered(untrusted)
        if not isinstance(messages, list) or tools is None:
            return None
        system = (m for m in items(untrusted, "messages") if m.get("role") == "system")
        return Request(
            name=text(untrusted, "model"),
            stream=under(untrusted, "stream") is not False,
            system_size=sum(size(message.get("content")) for message in system),
            messages=tuple(messages),
            tools=tools.names,
            servers=tools.servers,
            max_tokens=count(untrusted, "options", "num_predict"),
            answered=tuple(
                text(m, "tool_name") or "tool"
                for m in items(untrusted, "messages")
                if m.get("role") == "tool"
            ),
        )

    def whole(self, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        self.part("message", untrusted, answer)

    def part(self, name: str, untrusted: Mapping[str, Any], answer: Answer) -> None:  # noqa: ARG002
        """See `Dialect`."""
        if untrusted.get("error") is not None:
            answer.error, answer.understood = failure(untrusted["error"]), True
        answer.name = text(untrusted, "model") or answer.name
        if isinstance(under(untrusted, "message"), dict):
            answer.understood = True
        answer.written += sum(size(under(untrusted, "message", name)) for name in ("content", "thinking"))
        for found in items(untrusted, "message", "tool_calls"):
            answer.written += size(under(found, "function", "arguments"))
            call = answer.tool(len(answer.tools))
            call.name = text(found, "function", "name")
            call.arguments_size = size(under(found, "function", "arguments"))
        if untrusted.get("done") is True:
            answer.understood = True
            answer.stop_reason = text(untrusted, "done_reason") or "stop"
            answer.input_tokens = count(untrusted, "prompt_eval_count")
            answer.output_tokens = count(untrusted, "eval_count")


class NativeGenerate(NativeChat):
    """`/api/generate`."""

    api = "generate"

    def request(self, untrusted: Mapping[str, Any], path: str) -> Request | None:  # noqa: ARG002
        """See `Dialect`."""
        most = count(untrusted, "options", "num_predict")
        return prompted(untrusted, most, stream=under(untrusted, "stream") is not False)

    def part(self, name: str, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        told = under(untrusted, "response")
        answer.understood = answer.understood or isinstance(told, str)
        answer.written += size(told) + size(under(untrusted, "thinking"))
        super().part(name, untrusted, answer)
