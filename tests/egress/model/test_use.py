"""What a call is held to have used: the provider's count where it is of all of it, else what came of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from capsule.egress.model.call import ModelCall, Use, readable
from tests.egress.model import answers

LONG = "words and more " * 400
SAID = len(LONG) // 4
CHAT = "/v1/chat/completions"
ASKED = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


def begun(host: str, path: str, body: bytes | None = ASKED) -> ModelCall:
    call = ModelCall.begin(host, path, body)
    assert call is not None
    return call


def chunk(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def told(use: Use) -> tuple[int | None, int | None, bool]:
    return use.answer.input_tokens, use.answer.output_tokens, use.exact


def test_a_count_of_all_of_it_stands() -> None:
    call = begun("api.anthropic.com", "/v1/messages")
    call.answers("text/event-stream", "")
    call.feed(answers.MESSAGES_STREAM)
    assert told(call.used(4000, cut=False)) == (240, 77, True)
    assert told(call.used(4000, cut=True)) == (240, 77, True), "the count had come"


def test_an_answer_that_was_broken_off_counts_by_what_came() -> None:
    begin = answers.MESSAGES_STREAM.partition(b"\n\n")[0]
    call = begun("api.anthropic.com", "/v1/messages")
    call.answers("text/event-stream", "")
    call.feed(begin + b"\n\n")
    for kind in ("text", "thinking", "partial_json"):
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", kind: LONG}}
        call.feed(answers.sse(("content_block_delta", delta)))
    assert told(call.used(4000, cut=True)) == (240, 3 * SAID, True), "what it read was said at the start"


@pytest.mark.parametrize(
    "delta",
    [
        {"content": LONG},
        {"reasoning_content": LONG},
        {"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": LONG}}]},
    ],
)
def test_a_stream_without_a_count_counts_by_what_came(delta: dict[str, Any]) -> None:
    call = begun("models.example", CHAT)
    call.answers("text/event-stream", "")
    call.feed(answers.sse((None, chunk(**delta)), (None, "[DONE]")))
    assert told(call.used(4000, cut=False)) == (1000, SAID, False)


@pytest.mark.parametrize(
    ("host", "path", "kind", "piece"),
    [
        ("api.openai.com", "/v1/responses", "text/event-stream",
         answers.sse((None, {"type": "response.created", "response": {"id": "r"}}),
                     (None, {"type": "response.output_text.delta", "output_index": 0, "delta": LONG}))),
        ("generativelanguage.googleapis.com", "/v1/models/g:streamGenerateContent", "text/event-stream",
         answers.sse((None, {"candidates": [{"content": {"parts": [{"text": LONG}]}}]}))),
        ("localhost", "/api/chat", "application/x-ndjson",
         json.dumps({"model": "m", "message": {"content": LONG}, "done": False}).encode() + b"\n"),
    ],
)  # fmt: skip
def test_every_dialect_counts_what_came(host: str, path: str, kind: str, piece: bytes) -> None:
    call = begun(host, path, json.dumps({"model": "m", "messages": [], "input": "", "contents": []}).encode())
    call.answers(kind, "")
    call.feed(piece)
    assert told(call.used(4000, cut=True)) == (1000, SAID, False)


def test_what_could_not_be_read_counts_by_its_bytes() -> None:
    coded = begun("models.example", CHAT)
    coded.answers("application/json", "br")
    coded.feed(bytes(8000))
    assert told(coded.used(400, cut=False)) == (100, 2000, False)
    half = begun("models.example", CHAT)
    half.answers("application/json", "")
    half.feed(b'{"choices": [{"message": {"content": "' + LONG.encode())
    assert half.used(400, cut=True).answer.output_tokens > SAID  # type: ignore[operator]


def test_a_call_that_failed_used_nothing() -> None:
    call = begun("api.anthropic.com", "/v1/messages")
    call.answers("application/json", "", 529)
    call.feed(
        json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}).encode()
    )
    assert told(call.used(4000, cut=False)) == (0, 0, True)


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"\x1f\x8b\x08",
        ASKED[:-1] + b', "Tools": []}',
        ASKED[:-1] + b', "model": "m"}',
        ASKED[:-1] + b', "tools": [' + b",".join([b"{}"] * 257) + b"]}",
    ],
    ids=["long", "coded", "another spelling", "a key twice", "too many tools"],
)
def test_a_body_that_nobody_can_read_is_a_call_until_its_answer_tells(body: bytes | None) -> None:
    call = begun("models.example", CHAT, body)
    call.answers("application/json", "")
    call.feed(json.dumps({"choices": [{}], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}).encode())
    assert call.is_one(cut=False)
    assert told(call.used(0, cut=False)) == (12, 3, True)
    assert call.event()["unknown"]
    other = begun("shop.example", CHAT, body)
    other.answers("application/json", "")
    other.feed(b'{"order": 7}')
    assert not other.is_one(cut=False)
    assert told(other.used(4000, cut=False)) == (0, 0, True)


def test_codings_in_which_an_answer_can_be_followed() -> None:
    assert readable("br, gzip;q=0.9, deflate, zstd") == "gzip;q=0.9, deflate"
    assert readable("br") == "identity"
    assert readable("*") == "identity"
