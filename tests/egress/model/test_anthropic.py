"""The dialect alone; test_call.py has it through whole calls."""

from __future__ import annotations

from capsule.egress.model.anthropic import Messages
from capsule.egress.model.shape import Answer


def test_cached_tokens_count_as_input() -> None:
    answer = Answer()
    usage = {
        "input_tokens": 1,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 4,
        "output_tokens": 8,
    }
    Messages().whole({"type": "message", "usage": usage}, answer)
    assert (answer.input_tokens, answer.cached_tokens, answer.cache_write_tokens, answer.output_tokens) == (
        7,
        2,
        4,
        8,
    )


def test_arguments_of_a_block_nobody_opened_are_not_counted() -> None:
    answer = Answer()
    delta = {"type": "content_block_delta", "index": 3, "delta": {"partial_json": "{}"}}
    Messages().part("content_block_delta", delta, answer)
    assert answer.tools == {}
