"""Requests and answers in the documented forms of the providers' APIs, with made-up contents."""

from __future__ import annotations

import json
from typing import Any


def sse(*events: tuple[str | None, dict[str, Any] | str]) -> bytes:
    """A stream of server-sent events."""
    out = ""
    for name, data in events:
        out += f"event: {name}\n" if name else ""
        out += f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
    return out.encode()


MESSAGES_REQUEST = {
    "model": "claude-x", "max_tokens": 900, "stream": True, "system": "Be brief.",
    "tools": [{"name": "look", "input_schema": {}}, {"name": "list", "input_schema": {}}],
    "messages": [
        {"role": "user", "content": "What is in a.py?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"p": "a"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x"}]},
    ],
}  # fmt: skip
MESSAGES_STREAM = sse(
    ("message_start", {"type": "message_start", "message": {
        "type": "message", "id": "msg_1", "model": "claude-x-1", "content": [], "stop_reason": None,
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 200, "cache_creation_input_tokens": 30,
                  "output_tokens": 1}}}),
    ("ping", {"type": "ping"}),
    ("content_block_start", {"type": "content_block_start", "index": 0,
                             "content_block": {"type": "thinking", "thinking": ""}}),
    ("content_block_delta", {"type": "content_block_delta", "index": 0,
                             "delta": {"type": "thinking_delta", "thinking": "hm"}}),
    ("content_block_start", {"type": "content_block_start", "index": 1,
                             "content_block": {"type": "tool_use", "id": "t2", "name": "look", "input": {}}}),
    ("content_block_delta", {"type": "content_block_delta", "index": 1,
                             "delta": {"type": "input_json_delta", "partial_json": '{"p":'}}),
    ("content_block_delta", {"type": "content_block_delta", "index": 1,
                             "delta": {"type": "input_json_delta", "partial_json": ' "é"}'}}),
    ("content_block_start", {"type": "content_block_start", "index": 2,
                             "content_block": {"type": "tool_use", "id": "t3", "name": "list", "input": {}}}),
    ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "tool_use"},
                       "usage": {"output_tokens": 77}}),
    ("message_stop", {"type": "message_stop"}),
)  # fmt: skip
MESSAGES_WHOLE = {
    "type": "message", "id": "msg_2", "model": "claude-x-1", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "hello"}, {"type": "tool_use", "id": "t9", "name": "look", "input": {"p": 1}}],
    "usage": {"input_tokens": 5, "output_tokens": 6},
}  # fmt: skip

CHAT_REQUEST = {
    "model": "gpt-x", "stream": True, "max_completion_tokens": 64,
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
    ],
}  # fmt: skip
CHAT_STREAM = sse(
    (None, {"id": "chat_1", "model": "gpt-x-1", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}),
    (None, {"id": "chat_1", "model": "gpt-x-1", "choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "c2", "type": "function", "function": {"name": "look", "arguments": ""}}]}}]}),
    (None, {"id": "chat_1", "model": "gpt-x-1", "choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "function": {"arguments": '{"p":'}}, {"index": 1, "id": "c3", "function": {"name": "list"}}]}}]}),
    (None, {"id": "chat_1", "model": "gpt-x-1", "choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "function": {"arguments": "1}"}}]}, "finish_reason": "tool_calls"}]}),
    (None, {"id": "chat_1", "model": "gpt-x-1", "choices": [], "usage": {
        "prompt_tokens": 120, "completion_tokens": 40, "prompt_tokens_details": {"cached_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 30}}}),
    (None, "[DONE]"),
)  # fmt: skip

RESPONSES_REQUEST = {
    "model": "gpt-x", "stream": True, "instructions": "Be brief.", "max_output_tokens": 50,
    "previous_response_id": "resp_0", "tools": [{"type": "function", "name": "look"}, {"type": "web_search"}],
    "input": [{"type": "function_call_output", "call_id": "c1", "output": "x"}],
}  # fmt: skip
_RESPONSE = {
    "object": "response", "id": "resp_1", "model": "gpt-x-1", "status": "completed",
    "output": [{"type": "reasoning", "id": "rs"},
               {"type": "function_call", "call_id": "c2", "name": "look", "arguments": '{"p":1}'}],
    "usage": {"input_tokens": 80, "input_tokens_details": {"cached_tokens": 64},
              "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 16}},
}  # fmt: skip
RESPONSES_WHOLE = _RESPONSE
RESPONSES_STREAM = sse(
    ("response.created", {"type": "response.created",
                          "response": {"object": "response", "id": "resp_1", "status": "in_progress"}}),
    ("response.output_item.added", {"type": "response.output_item.added", "output_index": 1,
                                    "item": {"type": "function_call", "call_id": "c2", "name": "look"}}),
    ("response.function_call_arguments.delta", {"type": "response.function_call_arguments.delta",
                                                "output_index": 1, "delta": '{"p":1}'}),
    ("response.completed", {"type": "response.completed", "response": _RESPONSE}),
)  # fmt: skip

GENERATE_PATH = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
GENERATE_REQUEST = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]}, "generationConfig": {"maxOutputTokens": 70},
    "tools": [{"functionDeclarations": [{"name": "look"}]}],
    "contents": [{"role": "user", "parts": [{"text": "hi"}]},
                 {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {}}}]}],
}  # fmt: skip
GENERATE_PARTS: list[dict[str, Any]] = [
    {"candidates": [{"content": {"parts": [{"text": "a"}]}}], "modelVersion": "gemini-x-1", "responseId": "g1"},
    {"candidates": [{"content": {"parts": [{"functionCall": {"name": "look", "args": {"p": 1}}}]},
                     "finishReason": "STOP"}],
     "usageMetadata": {"promptTokenCount": 50, "cachedContentTokenCount": 40, "candidatesTokenCount": 8,
                       "thoughtsTokenCount": 12, "totalTokenCount": 70}},
]  # fmt: skip
GENERATE_STREAM = sse(*((None, part) for part in GENERATE_PARTS))

NATIVE_REQUEST = {
    "model": "small:1b",
    "messages": [{"role": "system", "content": "s"}, {"role": "tool", "content": "r"}],
}
NATIVE_STREAM = b"".join(
    json.dumps(part).encode() + b"\n"
    for part in (
        {"model": "small:1b", "message": {"role": "assistant", "content": "a"}, "done": False},
        {"model": "small:1b", "message": {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "look", "arguments": {"p": 1}}}]}, "done": False},
        {"model": "small:1b", "message": {"content": ""}, "done": True, "done_reason": "stop",
         "prompt_eval_count": 26, "eval_count": 7},
    )
)  # fmt: skip
