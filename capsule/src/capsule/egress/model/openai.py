"""The APIs of chat, completions and responses, of OpenAI and of the many servers that speak the first two.

Input counts include what was cached, output counts include reasoning, as in an event.

    Chat().part("message", {"choices": [{"delta": {}, "finish_reason": "stop"}]}, answer)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from capsule.egress.model.shape import Answer, Request, count, failure, items, several, size, text, under
from capsule.egress.model.tools import offered, prompted

_TOLD = ("content", "reasoning_content", "reasoning", "refusal")


class Chat:
    """`…/chat/completions`."""

    api = "chat"

    def request(self, untrusted: Mapping[str, Any], path: str) -> Request | None:  # noqa: ARG002
        """See `Dialect`."""
        messages = under(untrusted, "messages")
        tools = offered(untrusted)
        if not isinstance(messages, list) or tools is None:
            return None
        system = [m for m in items(untrusted, "messages") if text(m, "role") in {"system", "developer"}]
        answered = [text(m, "tool_call_id") for m in items(untrusted, "messages") if m.get("role") == "tool"]
        # Servers take either one where both are there.
        most = [count(untrusted, name) for name in ("max_completion_tokens", "max_tokens")]
        return Request(
            name=text(untrusted, "model"),
            stream=under(untrusted, "stream") is True,
            system_size=sum(size(message.get("content")) for message in system),
            messages=tuple(messages),
            tools=tools.names,
            servers=tools.servers,
            max_tokens=max((found for found in most if found is not None), default=None),
            answered=tuple(found for found in answered if found),
            answers=several(untrusted, "n"),
        )

    def whole(self, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        self._head(untrusted, answer)
        for choice in items(untrusted, "choices"):
            answer.understood = True
            answer.stop_reason = text(choice, "finish_reason") or answer.stop_reason
            for index, call in enumerate(items(choice, "message", "tool_calls")):
                self._tool(index, call, answer)

    def part(self, name: str, untrusted: Mapping[str, Any], answer: Answer) -> None:  # noqa: ARG002
        """See `Dialect`."""
        self._head(untrusted, answer)
        for choice in items(untrusted, "choices"):
            answer.understood = True
            answer.stop_reason = text(choice, "finish_reason") or answer.stop_reason
            answer.written += sum(size(under(choice, "delta", name)) for name in _TOLD)
            for place, call in enumerate(items(choice, "delta", "tool_calls")):
                answer.written += size(under(call, "function", "arguments"))
                index = under(call, "index")
                self._tool(index if isinstance(index, int) else place, call, answer)

    def _head(self, untrusted: Mapping[str, Any], answer: Answer) -> None:
        if untrusted.get("error") is not None:
            answer.error, answer.understood = failure(untrusted["error"]), True
        answer.response_id = answer.response_id or text(untrusted, "id")
        answer.name = text(untrusted, "model") or answer.name
        usage = under(untrusted, "usage")
        if count(usage, "prompt_tokens") is not None:
            answer.understood = True
            answer.input_tokens = count(usage, "prompt_tokens")
            answer.output_tokens = count(usage, "completion_tokens")
            answer.cached_tokens = count(usage, "prompt_tokens_details", "cached_tokens")
            answer.reasoning_tokens = count(usage, "completion_tokens_details", "reasoning_tokens")

    def _tool(self, index: int, untrusted: Mapping[str, Any], answer: Answer) -> None:
        call = answer.tool(index)
        call.id = text(untrusted, "id") or call.id
        call.name = text(untrusted, "function", "name") or call.name
        call.arguments_size += size(under(untrusted, "function", "arguments"))


class Completions(Chat):
    """`…/completions`, which local servers have beside the chat: a prompt, and text that goes on from it."""

    api = "completions"

    def request(self, untrusted: Mapping[str, Any], path: str) -> Request | None:  # noqa: ARG002
        """See `Dialect`."""
        asked = prompted(untrusted, count(untrusted, "max_tokens"), stream=under(untrusted, "stream") is True)
        many = max(several(untrusted, "n"), several(untrusted, "best_of"))
        prompts = under(untrusted, "prompt")
        if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
            many *= len(prompts)  # one each; a list of numbers is one, in tokens
        return None if asked is None else replace(asked, answers=many)

    def part(self, name: str, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        answer.written += sum(size(choice.get("text")) for choice in items(untrusted, "choices"))
        super().part(name, untrusted, answer)


class Responses:
    """`…/responses`."""

    api = "responses"

    def request(self, untrusted: Mapping[str, Any], path: str) -> Request | None:  # noqa: ARG002
        """See `Dialect`."""
        given = under(untrusted, "input")
        tools = offered(untrusted)
        if not isinstance(given, str | list) or tools is None:
            return None
        outputs = (item for item in items(untrusted, "input") if item.get("type") == "function_call_output")
        return Request(
            name=text(untrusted, "model"),
            stream=under(untrusted, "stream") is True,
            system_size=size(under(untrusted, "instructions")),
            messages=tuple(given) if isinstance(given, list) else (given,),
            tools=tools.names,
            servers=tools.servers,
            max_tokens=count(untrusted, "max_output_tokens"),
            answered=tuple(found for item in outputs if (found := text(item, "call_id"))),
            previous=text(untrusted, "previous_response_id"),
            background=under(untrusted, "background") is True,
        )

    def whole(self, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        if untrusted.get("error") is not None:
            answer.error, answer.understood = failure(untrusted["error"]), True
        if untrusted.get("object") == "response":
            self._response(untrusted, answer)

    def part(self, name: str, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        kind = text(untrusted, "type") or name
        index = under(untrusted, "output_index")
        index = index if isinstance(index, int) else None
        answer.written += size(under(untrusted, "delta"))
        if kind == "error":
            answer.error = failure(under(untrusted, "error")) or failure(untrusted)
            answer.understood = True
        elif kind == "response.output_item.added" and index is not None:
            if text(untrusted, "item", "type") == "function_call":
                call = answer.tool(index)
                call.id, call.name = text(untrusted, "item", "call_id"), text(untrusted, "item", "name")
        elif kind == "response.function_call_arguments.delta" and index is not None and index in answer.tools:
            answer.tool(index).arguments_size += size(under(untrusted, "delta"))
        elif isinstance(under(untrusted, "response"), dict):
            # created, in progress, completed, incomplete, failed: the whole of it as it is by then.
            self._response(untrusted["response"], answer)

    def _response(self, untrusted: Mapping[str, Any], answer: Answer) -> None:
        answer.understood = True
        answer.background = answer.background or untrusted.get("background") is True
        answer.response_id = text(untrusted, "id") or answer.response_id
        answer.name = text(untrusted, "model") or answer.name
        if untrusted.get("error") is not None:
            answer.error = failure(untrusted["error"])
        status = text(untrusted, "status")
        if status not in {None, "in_progress", "queued"}:
            answer.stop_reason = text(untrusted, "incomplete_details", "reason") or status
        for index, item in enumerate(items(untrusted, "output")):
            if item.get("type") == "function_call":
                call = answer.tool(index)
                call.id, call.name = text(item, "call_id"), text(item, "name")
                call.arguments_size = size(item.get("arguments"))
        usage = under(untrusted, "usage")
        if count(usage, "input_tokens") is not None:
            answer.input_tokens = count(usage, "input_tokens")
            answer.output_tokens = count(usage, "output_tokens")
            answer.cached_tokens = count(usage, "input_tokens_details", "cached_tokens")
            answer.reasoning_tokens = count(usage, "output_tokens_details", "reasoning_tokens")
