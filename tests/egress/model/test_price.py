from __future__ import annotations

from datetime import UTC, datetime

import pytest

from capsule.egress.model.price import cost
from capsule.egress.model.shape import Answer

pytest.importorskip("genai_prices")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_known_model_has_a_price_and_cached_tokens_are_cheaper() -> None:
    full = cost("anthropic", "claude-sonnet-4-5", Answer(input_tokens=1000, output_tokens=100), NOW)
    less = cost(
        "anthropic", "claude-sonnet-4-5", Answer(input_tokens=1000, cached_tokens=900, output_tokens=100), NOW
    )
    assert full is not None
    assert less is not None
    assert 0 < less < full < 1_000_000


@pytest.mark.parametrize(
    ("provider", "name", "answer"),
    [
        ("anthropic", "no-such-model", Answer(input_tokens=1, output_tokens=1)),
        ("compatible", "claude-sonnet-4-5", Answer(input_tokens=1, output_tokens=1)),
        ("anthropic", "claude-sonnet-4-5", Answer(input_tokens=1)),
        ("anthropic", None, Answer(input_tokens=1, output_tokens=1)),
        ("anthropic", "claude-sonnet-4-5", Answer(input_tokens=1, cached_tokens=900, output_tokens=1)),
    ],
)
def test_what_nobody_knows_has_none(provider: str, name: str | None, answer: Answer) -> None:
    assert cost(provider, name, answer, NOW) is None
