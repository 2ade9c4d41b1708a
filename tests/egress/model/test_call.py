"""Every dialect through the whole of a call: requests, answers in one piece and as streams, split anywhere, hostile."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import Any

import pytest

from capsule.egress.metering import wants_body
from capsule.egress.model.call import MAX_ANSWER, ModelCall, Use, dialect_of, provider_of, readable
from tests.egress.model import answers

STREAMS: dict[str, tuple[str, str, dict[str, Any], str, bytes]] = {
    "messages": (
        "api.anthropic.com",
        "/v1/messages",
        answers.MESSAGES_REQUEST,
        "text/event-stream; charset=utf-8",
        answers.MESSAGES_STREAM,
    ),
    "chat": (
        "api.openai.com",
        "/v1/chat/completions",
        answers.CHAT_REQUEST,
        "text/event-stream",
        answers.CHAT_STREAM,
    ),
    "responses": (
        "api.openai.com",
        "/v1/responses",
        answers.RESPONSES_REQUEST,
        "text/event-stream",
        answers.RESPONSES_STREAM,
    ),
    "generate": (
        "generativelanguage.googleapis.com",
        answers.GENERATE_PATH,
        answers.GENERATE_REQUEST,
        "text/event-stream",
        answers.GENERATE_STREAM,
    ),
    "native": (
        "localhost",
        "/api/chat",
        answers.NATIVE_REQUEST,
        "application/x-ndjson",
        answers.NATIVE_STREAM,
    ),
}
EXPECTED: dict[str, dict[str, Any]] = {
    "messages": {
        "provider": "anthropic",
        "api": "messages",
        "name": "claude-x",
        "stream": True,
        "system_size": 9,
        "messages": 3,
        "tools": ["look", "list"],
        "max_tokens": 900,
        "tool_results": ["t1"],
        "input_tokens": 240,
        "cached_tokens": 200,
        "cache_write_tokens": 30,
        "output_tokens": 77,
        "stop_reason": "tool_use",
        "response_id": "msg_1",
        "tool_calls": [
            {"id": "t2", "name": "look", "arguments_size": 11},
            {"id": "t3", "name": "list", "arguments_size": 0},
        ],
        "unknown": False,
    },
    "chat": {
        "provider": "openai",
        "api": "chat",
        "name": "gpt-x",
        "stream": True,
        "system_size": 9,
        "messages": 3,
        "tools": ["look"],
        "max_tokens": 64,
        "tool_results": ["c1"],
        "input_tokens": 120,
        "cached_tokens": 100,
        "output_tokens": 40,
        "reasoning_tokens": 30,
        "stop_reason": "tool_calls",
        "response_id": "chat_1",
        "tool_calls": [
            {"id": "c2", "name": "look", "arguments_size": 7},
            {"id": "c3", "name": "list", "arguments_size": 0},
        ],
        "unknown": False,
    },
    "responses": {
        "provider": "openai",
        "api": "responses",
        "name": "gpt-x",
        "stream": True,
        "system_size": 9,
        "messages": 1,
        "tools": ["look", "web_search"],
        "max_tokens": 50,
        "tool_results": ["c1"],
        "input_tokens": 80,
        "cached_tokens": 64,
        "output_tokens": 20,
        "reasoning_tokens": 16,
        "stop_reason": "completed",
        "response_id": "resp_1",
        "tool_calls": [{"id": "c2", "name": "look", "arguments_size": 7}],
        "unknown": False,
    },
    "generate": {
        "provider": "google",
        "api": "generate",
        "name": "gemini-x",
        "stream": True,
        "system_size": 32,
        "messages": 2,
        "tools": ["look"],
        "max_tokens": 70,
        "tool_results": ["look"],
        "input_tokens": 50,
        "cached_tokens": 40,
        "output_tokens": 20,
        "reasoning_tokens": 12,
        "stop_reason": "STOP",
        "response_id": "g1",
        "tool_calls": [{"name": "look", "arguments_size": 7}],
        "unknown": False,
    },
    "native": {
        "provider": "compatible",
        "api": "chat",
        "name": "small:1b",
        "stream": True,
        "system_size": 1,
        "messages": 2,
        "tools": [],
        "tool_results": ["tool"],
        "input_tokens": 26,
        "output_tokens": 7,
        "stop_reason": "stop",
        "tool_calls": [{"name": "look", "arguments_size": 7}],
        "unknown": False,
    },
}


def begun(name: str, encoding: str = "") -> ModelCall:
    host, path, request, kind, _ = STREAMS[name]
    call = ModelCall.begin(host, path, json.dumps(request).encode())
    assert call is not None
    call.answers(kind, encoding)
    return call


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_one_piece(name: str) -> None:
    call = begun(name)
    call.feed(STREAMS[name][4])
    assert call.event() == EXPECTED[name]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_at_every_byte(name: str) -> None:
    call = begun(name)
    for byte in STREAMS[name][4]:
        call.feed(bytes([byte]))
    assert call.event() == EXPECTED[name]


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_stream_that_is_compressed(name: str, encoding: str) -> None:
    sent = STREAMS[name][4]
    packed = gzip.compress(sent) if encoding == "gzip" else zlib.compress(sent)
    call = begun(name, encoding)
    for at in range(0, len(packed), 7):
        call.feed(packed[at : at + 7])
    assert call.event() == EXPECTED[name]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_breaks_off_tells_what_was_known(name: str) -> None:
    call = begun(name)
    call.feed(STREAMS[name][4][: len(STREAMS[name][4]) // 2])
    event = call.event()
    assert event["provider"] == EXPECTED[name]["provider"]
    assert event["tools"] == EXPECTED[name]["tools"]


WHOLES: list[tuple[str, str, object, dict[str, Any]]] = [
    ("api.anthropic.com", "/v1/messages", answers.MESSAGES_WHOLE,
     {"input_tokens": 5, "output_tokens": 6, "stop_reason": "end_turn",
      "tool_calls": [{"id": "t9", "name": "look", "arguments_size": 7}]}),
    ("api.anthropic.com", "/v1/messages", {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
     {"error": "overloaded_error: busy", "unknown": False}),
    ("models.example", "/v1/chat/completions",
     {"id": "c", "model": "m", "choices": [{"message": {"tool_calls": [{"id": "x", "function": {
         "name": "look", "arguments": "{}"}}]}, "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
     {"provider": "compatible", "input_tokens": 3, "output_tokens": 4, "stop_reason": "stop",
      "tool_calls": [{"id": "x", "name": "look", "arguments_size": 2}]}),
    ("api.openai.com", "/v1/responses", answers.RESPONSES_WHOLE, {"output_tokens": 20, "stop_reason": "completed"}),
    ("api.openai.com", "/v1/responses", {"error": {"code": "rate_limit", "message": "slow down"}},
     {"error": "rate_limit: slow down"}),
    ("generativelanguage.googleapis.com", "/v1beta/models/gemini-x:streamGenerateContent", answers.GENERATE_PARTS,
     {"input_tokens": 50, "output_tokens": 20, "stop_reason": "STOP"}),
    ("generativelanguage.googleapis.com", "/v1/models/gemini-x:generateContent",
     {"promptFeedback": {"blockReason": "SAFETY"}}, {"stop_reason": "SAFETY", "name": "gemini-x", "unknown": False}),
    ("localhost", "/api/chat", {"error": "model not found"}, {"error": "model not found"}),
]  # fmt: skip
REQUESTS = {
    "/v1/messages": answers.MESSAGES_REQUEST,
    "/v1/chat/completions": answers.CHAT_REQUEST,
    "/v1/responses": answers.RESPONSES_REQUEST,
    "/api/chat": answers.NATIVE_REQUEST,
}


@pytest.mark.parametrize(("host", "path", "answer", "expected"), WHOLES)
def test_answers_in_one_piece(host: str, path: str, answer: object, expected: dict[str, Any]) -> None:
    call = ModelCall.begin(host, path, json.dumps(REQUESTS.get(path, answers.GENERATE_REQUEST)).encode())
    assert call is not None
    call.answers("application/json", "")
    call.feed(json.dumps(answer).encode())
    event = call.event()
    assert expected.items() <= event.items(), event


def test_an_error_in_the_middle_of_a_stream() -> None:
    call = begun("messages")
    call.feed(
        answers.sse(("error", {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}))
    )
    assert call.event()["error"] == "overloaded_error: busy"
    call = begun("responses")
    call.feed(answers.sse(("error", {"type": "error", "code": "server_error", "message": "oops"})))
    assert call.event()["error"] == "error: oops"


@pytest.mark.parametrize(
    ("host", "path", "body", "provider", "unknown"),
    [
        ("api.anthropic.com", "/v1/messages", b"not json", "anthropic", True),
        ("api.openai.com", "/v1/chat/completions", None, "openai", True),
        ("api.openai.com", "/v1/responses", b'{"input": 5}', "openai", True),
    ],
)
def test_unknown_shapes_pass_as_unknown(
    host: str, path: str, body: bytes | None, provider: str, unknown: bool
) -> None:
    call = ModelCall.begin(host, path, body)
    assert call is not None
    call.answers("application/json", "")
    call.feed(b"<html>")
    event = call.event()
    assert (event["provider"], event["unknown"]) == (provider, unknown)


def test_what_is_no_model_call() -> None:
    assert ModelCall.begin("shop.example", "/v1/messages", b'{"text": "hi"}') is None
    assert ModelCall.begin("api.openai.com", "/v1/files", b"{}") is None
    assert dialect_of("/v1/models") is None


def test_codings_that_are_not_taken_off_and_bombs() -> None:
    call = begun("messages", "br")
    call.feed(b"anything")
    assert call.event()["unknown"]
    call = begun("messages", "gzip")
    call.feed(gzip.compress(bytes(64 << 20)))
    assert call.event()["unknown"]
    long = ModelCall.begin("api.openai.com", "/v1/responses", json.dumps(answers.RESPONSES_REQUEST).encode())
    assert long is not None
    long.answers("application/json", "")
    for _ in range(MAX_ANSWER // 65536 + 2):
        long.feed(b"x" * 65536)
    assert long.event()["unknown"]


def test_providers_by_host() -> None:
    assert provider_of("europe-west1-aiplatform.googleapis.com") == "google"
    assert provider_of("api.anthropic.com.evil.example") is None
    assert provider_of("evilaiplatform.googleapis.com.example") is None


@pytest.mark.parametrize("name", STREAMS)
def test_mutated_streams_never_raise(name: str) -> None:
    chance = random.Random(name)
    sent = STREAMS[name][4]
    for _ in range(300):
        bad = bytearray(sent)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(bad))
            match chance.randrange(3):
                case 0:
                    bad[at] = chance.randrange(256)
                case 1:
                    del bad[at : at + chance.randint(1, 40)]
                case _:
                    bad[at:at] = chance.choice(
                        [b"null", b"[]", b"{}", b"-1", b'"x"', b"1e999", b"\n\n", b"NaN"]
                    )
            if not bad:
                break
        call = begun(name)
        call.feed(bytes(bad))
        event = call.event()
        assert json.loads(json.dumps(event)) == event


@pytest.mark.parametrize("path", [*REQUESTS, answers.GENERATE_PATH])
def test_mutated_requests_never_raise(path: str) -> None:
    chance = random.Random(path)
    sent = json.dumps(REQUESTS.get(path, answers.GENERATE_REQUEST))
    values = ["null", "[]", "{}", "-1", '"x"', "true", "[[[]]]", '{"type": 7}']
    for _ in range(300):
        parts = sent.split(" ")
        parts[chance.randrange(len(parts))] = chance.choice(values) + chance.choice(["", ",", "}", "]"])
        call = ModelCall.begin("api.openai.com", path, " ".join(parts).encode())
        assert call is not None
        assert call.event()["provider"] == "openai"


@pytest.mark.parametrize(
    "path",
    ["/v1/%6dessages", "/v1/./messages", "/v1//messages", "/v1/x/../messages", "/v1/messages;p", "/v1/messages/",
     "/v1/messages%00", "/v1%2fmessages", "/v1/%256dessages", "/V1/Messages", "/v1\\messages", "/v1/messages%3fx"],
)  # fmt: skip
def test_a_call_is_one_however_its_path_is_spelled(path: str) -> None:
    assert wants_body("POST", path)
    assert wants_body("post", path)
    call = ModelCall.begin("api.anthropic.com", path, b'{"model": "m", "messages": [], "max_tokens": 9}')
    assert call is not None
    assert call.request is not None
    assert not wants_body("POST", "/v1/files"), "the control"
    assert not wants_body("GET", "/v1/messages"), "the control"


def test_the_model_in_an_escaped_path_is_known() -> None:
    call = ModelCall.begin(
        "generativelanguage.googleapis.com", "/v1beta/models/gemini-x:generate%43ontent", b'{"contents": []}'
    )
    assert call is not None
    assert call.event()["name"] == "gemini-x"


LONG = "words and more " * 400
SAID = len(LONG) // 4
CHAT = "/v1/chat/completions"
ASKED = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


def call_to(host: str, path: str, body: bytes | None = ASKED) -> ModelCall:
    call = ModelCall.begin(host, path, body)
    assert call is not None
    return call


def chunk(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def told(use: Use) -> tuple[int | None, int | None, bool]:
    return use.answer.input_tokens, use.answer.output_tokens, use.exact


def test_a_count_of_all_of_it_stands() -> None:
    call = call_to("api.anthropic.com", "/v1/messages")
    call.answers("text/event-stream", "")
    call.feed(answers.MESSAGES_STREAM)
    assert told(call.used(4000, cut=False)) == (240, 77, True)
    assert told(call.used(4000, cut=True)) == (240, 77, True), "the count had come"


def test_an_answer_that_was_broken_off_counts_by_what_came() -> None:
    begin = answers.MESSAGES_STREAM.partition(b"\n\n")[0]
    call = call_to("api.anthropic.com", "/v1/messages")
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
    call = call_to("models.example", CHAT)
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
    call = call_to(
        host, path, json.dumps({"model": "m", "messages": [], "input": "", "contents": []}).encode()
    )
    call.answers(kind, "")
    call.feed(piece)
    assert told(call.used(4000, cut=True)) == (1000, SAID, False)


@pytest.mark.parametrize(
    ("path", "kind", "stream"),
    [
        ("/v1/completions", "text/event-stream",
         answers.sse((None, {"id": "c", "model": "m", "choices": [{"text": LONG, "finish_reason": "stop"}]}),
                     (None, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}), (None, "[DONE]"))),
        ("/api/generate", "application/x-ndjson",
         b'{"model": "m", "response": "a", "done": false}\n{"model": "m", "response": "", "done": true, '
         b'"done_reason": "stop", "prompt_eval_count": 7, "eval_count": 9}\n'),
    ],
)  # fmt: skip
def test_what_goes_on_from_a_prompt(path: str, kind: str, stream: bytes) -> None:
    body = {"model": "m", "prompt": "Once", "max_tokens": 50, "options": {"num_predict": 50}, "stream": True}
    call = call_to("models.example", path, json.dumps(body).encode())
    assert call.request is not None
    assert (call.request.max_tokens, call.request.tools) == (50, ())
    call.answers(kind, "")
    call.feed(stream)
    assert told(call.used(4000, cut=False)) == (7, 9, True)
    event = call.event()
    assert (event["provider"], event["name"], event["stop_reason"]) == ("compatible", "m", "stop")
    assert not event["unknown"]
    assert ModelCall.begin("paint.example", path, b'{"colour": "red"}') is None


def test_what_could_not_be_read_counts_by_its_bytes() -> None:
    coded = call_to("models.example", CHAT)
    coded.answers("application/json", "br")
    coded.feed(bytes(8000))
    assert told(coded.used(400, cut=False)) == (100, 2000, False)
    half = call_to("models.example", CHAT)
    half.answers("application/json", "")
    half.feed(b'{"choices": [{"message": {"content": "' + LONG.encode())
    assert half.used(400, cut=True).answer.output_tokens > SAID  # type: ignore[operator]


def test_a_call_that_failed_used_nothing() -> None:
    call = call_to("api.anthropic.com", "/v1/messages")
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
    call = call_to("models.example", CHAT, body)
    call.answers("application/json", "")
    call.feed(json.dumps({"choices": [{}], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}).encode())
    assert call.is_one(cut=False)
    assert told(call.used(0, cut=False)) == (12, 3, True)
    assert call.event()["unknown"]
    other = call_to("shop.example", CHAT, body)
    other.answers("application/json", "")
    other.feed(b'{"order": 7}')
    assert not other.is_one(cut=False)
    assert told(other.used(4000, cut=False)) == (0, 0, True)


def test_codings_in_which_an_answer_can_be_followed() -> None:
    assert readable("br, gzip;q=0.9, deflate, zstd") == "gzip;q=0.9, deflate"
    assert readable("br") == "identity"
    assert readable("*") == "identity"
