"""The dialect alone; test_call.py has it through whole calls."""

from __future__ import annotations

from capsule.egress.model.ollama import NativeChat
from capsule.egress.model.shape import Answer


def test_streams_unless_it_says_no() -> None:
    asked = NativeChat().request({"messages": []}, "")
    told = NativeChat().request({"messages": [], "stream": False}, "")
    assert asked is not None
    assert told is not None
    assert (asked.stream, told.stream) == (True, False)


def test_counts_come_with_the_end_only() -> None:
    answer = Answer()
    NativeChat().part("message", {"prompt_eval_count": 5, "message": {}}, answer)
    assert answer.input_tokens is None
