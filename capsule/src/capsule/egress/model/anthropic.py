"""The Messages API: one JSON object, or a stream from `message_start` to `message_stop`.

Its `input_tokens` leave out what was read from and written to the cache; an event's count everything.

    Messages().part("message_delta", {"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}, answer)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capsule.egress.model.shape import Answer, Request, count, failure, items, size, text, total, under
from capsule.egress.model.tools import offered


class Messages:
    """See the module."""

    api = "messages"

    def request(self, untrusted: Mapping[str, Any], path: str) -> Request | None:  # noqa: ARG002
        """See `Dialect`."""
        messages = under(untrusted, "messages")
        tools = offered(untrusted)
        if not isinstance(messages, list) or tools is None:
            return None
        answered = [
            found
            for message in items(untrusted, "messages")
            for block in items(message, "content")
            if block.get("type") == "tool_result" and (found := text(block, "tool_use_id"))
        ]
        return Request(
            name=text(untrusted, "model"),
            stream=under(untrusted, "stream") is True,
            system_size=size(under(untrusted, "system")),
            messages=tuple(messages),
            tools=tools.names,
            servers=tools.servers,
            max_tokens=count(untrusted, "max_tokens"),
            answered=tuple(answered),
        )

    def whole(self, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        if untrusted.get("type") == "error":
            answer.error, answer.understood = failure(untrusted.get("error")), True
            return
        self._message(untrusted, answer)
        for index, block in enumerate(items(untrusted, "content")):
            if block.get("type") == "tool_use":
                self._tool(index, block, answer)

    def part(self, name: str, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """See `Dialect`."""
        index = under(untrusted, "index")
        match untrusted.get("type", name):
            case "message_start":
                self._message(under(untrusted, "message"), answer)
            case "content_block_start" if isinstance(index, int):
                block = under(untrusted, "content_block")
                if text(block, "type") == "tool_use":
                    self._tool(index, block, answer)
            case "content_block_delta":
                given = size(under(untrusted, "delta", "partial_json"))
                told = (size(under(untrusted, "delta", name)) for name in ("text", "thinking"))
                answer.written += given + sum(told)
                if isinstance(index, int) and index in answer.tools:
                    answer.tool(index).arguments_size += given
            case "message_delta":
                answer.stop_reason = text(untrusted, "delta", "stop_reason") or answer.stop_reason
                self._usage(under(untrusted, "usage"), answer)
            case "error":
                answer.error, answer.understood = failure(under(untrusted, "error")), True

    def _message(self, untrusted: Any, answer: Answer) -> None:
        if text(untrusted, "type") != "message":
            return
        answer.understood = True
        answer.response_id, answer.name = text(untrusted, "id"), text(untrusted, "model")
        answer.stop_reason = text(untrusted, "stop_reason")
        self._usage(under(untrusted, "usage"), answer)

    def _tool(self, index: int, untrusted: Any, answer: Answer) -> None:
        call = answer.tool(index)
        call.id, call.name = text(untrusted, "id"), text(untrusted, "name")
        given = under(untrusted, "input")
        call.arguments_size = size(given) if given else 0

    def _usage(self, untrusted: Any, answer: Answer) -> None:
        plain = count(untrusted, "input_tokens")
        cached = count(untrusted, "cache_read_input_tokens")
        written = count(untrusted, "cache_creation_input_tokens")
        if plain is not None:
            answer.input_tokens = total(plain, cached, written)
        if cached is not None:
            answer.cached_tokens = cached
        if written is not None:
            answer.cache_write_tokens = written
        output = count(untrusted, "output_tokens")
        if output is not None:
            answer.output_tokens = output
