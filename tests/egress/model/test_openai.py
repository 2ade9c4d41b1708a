"""The dialect alone; test_call.py has it through whole calls."""

from __future__ import annotations

from capsule.egress.model.openai import Chat, Responses
from capsule.egress.model.shape import Answer


def test_a_text_as_input_is_one_message() -> None:
    request = Responses().request({"model": "m", "input": "hi"}, "")
    assert request is not None
    assert request.messages == ("hi",)


def test_a_last_chunk_without_choices_brings_the_counts() -> None:
    answer = Answer()
    Chat().part("message", {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, answer)
    assert (answer.input_tokens, answer.output_tokens, answer.understood) == (1, 2, True)


def test_an_incomplete_response_says_why() -> None:
    answer = Answer()
    response = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    Responses().part("response.incomplete", {"response": response}, answer)
    assert answer.stop_reason == "max_output_tokens"
