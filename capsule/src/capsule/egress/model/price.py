"""What a call cost, from the prices that come with genai-prices; nothing is asked over the network.

cost("anthropic", "claude-x", answer, at)      # microdollars, or None when nobody knows the price
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from capsule.egress.model.shape import Answer


def cost(provider: str, name: str | None, answer: Answer, at: datetime) -> int | None:
    """Microdollars, rounded up, for a call at a moment; None when tokens or price are not known.

    A server that only speaks a provider's language (`compatible`) has no known price.
    """
    if (
        provider == "compatible"
        or name is None
        or answer.input_tokens is None
        or answer.output_tokens is None
    ):
        return None
    from genai_prices import Usage, calc_price  # 100 ms: only when there is something to price

    usage = Usage(
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        cache_read_tokens=answer.cached_tokens or 0,
        cache_write_tokens=answer.cache_write_tokens or 0,
    )
    try:
        found = calc_price(usage, model_ref=name, provider_id=provider, genai_request_timestamp=at)
    except (LookupError, ValueError):
        return None
    return -int(-(Decimal(found.total_price) * 1_000_000) // 1)
