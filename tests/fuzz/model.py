"""The readers of model calls as a target: a request or an answer of one of the dialects → an event, whatever it holds.

The first byte says which dialect, and whether the rest is a request or an answer; an answer is read whole and in
pieces, and has to come to the same.

    fuzz(MODEL, seed=1, inputs=1000, seconds=4)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from capsule.egress.frames import encode
from capsule.egress.model.call import ModelCall
from capsule.egress.model.turns import Turns
from tests.egress.model import answers
from tests.fuzz.engine import Target
from tests.fuzz.mutation import cut

EVENTS = "text/event-stream"
GOOGLE = "generativelanguage.googleapis.com"
CALLS: dict[str, tuple[str, str, Any, str, bytes]] = {
    "messages": (
        "api.anthropic.com",
        "/v1/messages",
        answers.MESSAGES_REQUEST,
        EVENTS,
        answers.MESSAGES_STREAM,
    ),
    "chat": ("api.openai.com", "/v1/chat/completions", answers.CHAT_REQUEST, EVENTS, answers.CHAT_STREAM),
    "responses": (
        "api.openai.com",
        "/v1/responses",
        answers.RESPONSES_REQUEST,
        EVENTS,
        answers.RESPONSES_STREAM,
    ),
    "generate": (GOOGLE, answers.GENERATE_PATH, answers.GENERATE_REQUEST, EVENTS, answers.GENERATE_STREAM),
    "native": (
        "localhost",
        "/api/chat",
        answers.NATIVE_REQUEST,
        "application/x-ndjson",
        answers.NATIVE_STREAM,
    ),
}
WHOLE = {
    "messages": answers.MESSAGES_WHOLE,
    "responses": answers.RESPONSES_WHOLE,
    "generate": answers.GENERATE_PARTS,
}


def told(kind: str, content_type: str, coding: str, pieces: list[bytes]) -> dict[str, Any]:
    host, path, request, _, _ = CALLS[kind]
    call = ModelCall.begin(host, path, json.dumps(request).encode())
    assert call is not None
    call.answers(content_type, coding)
    for piece in pieces:
        call.feed(piece)
    event = call.event()
    encode(event)
    return event


def target_answer(kind: str) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        for content_type in (CALLS[kind][3], "application/json"):
            whole = told(kind, content_type, "", [data])
            assert told(kind, content_type, "", cut(len(data), data)) == whole
        told(kind, "text/event-stream", "gzip", [data])

    return target


def target_request(kind: str) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        call = ModelCall.begin(CALLS[kind][0], CALLS[kind][1], data)
        if call is not None:
            encode(call.event())
            if call.request is not None:
                Turns().link(call.request, "e-1")

    return target


KINDS = tuple(CALLS)


def check(data: bytes) -> Iterable[Hashable]:
    """Read what follows the first byte as what that says."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    if data[:1] >= b"a":
        target_answer(kind)(data[1:])
    else:
        target_request(kind)(data[1:])
    return ()


def _seeds() -> list[bytes]:
    found = []
    for kind, (_, _, request, _, stream) in CALLS.items():
        place = KINDS.index(kind)
        asks, tells = (first + (place - first) % len(KINDS) for first in (ord("A"), ord("a")))
        found += [bytes([asks]) + json.dumps(request).encode(), bytes([tells]) + stream]
        if kind in WHOLE:
            found.append(bytes([tells]) + json.dumps(WHOLE[kind]).encode())
    return found


MODEL = Target(
    "model",
    check,
    _seeds(),
    ("capsule/egress/model/",),
    (
        b'"',
        b"{}",
        b"[]",
        b"null",
        b"true",
        b"1.5",
        b"18446744073709551616",
        b'"\\ud800"',
        b"data: ",
        b"[DONE]",
    ),
)
