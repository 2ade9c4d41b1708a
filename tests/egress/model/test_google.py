"""The dialect alone; test_call.py has it through whole calls."""

from __future__ import annotations

import pytest

from capsule.egress.model.google import Generate
from capsule.egress.model.shape import Answer


@pytest.mark.parametrize(
    "path", ["/v1/models/x:countTokens", "/v1/models/a/b:generateContent", "/x:generateContent"]
)
def test_other_methods_are_no_calls(path: str) -> None:
    assert Generate().request({"contents": []}, path) is None


def test_thoughts_are_output() -> None:
    answer = Answer()
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "thoughtsTokenCount": 4}
    Generate().whole({"usageMetadata": usage}, answer)
    assert (answer.output_tokens, answer.reasoning_tokens) == (6, 4)
