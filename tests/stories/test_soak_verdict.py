"""What a soak says of slow requests: whose waiting they were, whether the product stalled, whether memory grows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.turns import soaked
from benchmarks.turns.sitecustomize import BEAT, beat
from benchmarks.turns.soaked import Line, Slow, Turn

FLAT = Line(100.0, 101.0, 0.0, 0.0)


def test_a_request_is_what_was_waited_for_and_the_rest() -> None:
    waited = Turn("beat", 10.0, 4.0, 0.1, 3.5)
    late = Turn("beat", 14.0, 0.5 + BEAT, 0.4, 0.0)
    slow = Slow(5.0, 9.5, "GET /small", 0.25)
    (found,) = soaked.stalls([slow], [waited], [late])
    assert round(found.egress, 2) == 3.5
    assert round(found.server, 2) == 0.48
    assert round(found.rest, 2) == 0.77
    (other,) = soaked.stalls([Slow(1.0, 30.0, "GET /small", 0.0)], [waited], [late])
    assert (other.egress, other.server, other.rest) == (0.0, 0.0, 1.0), (
        "who waited at another time is no reason"
    )


def test_the_verdict_tells_waiting_from_stalling() -> None:
    waiting = soaked.stalls([Slow(5.0, 0.0, "GET /", 0.1)], [Turn("beat", 0.0, 5.0, 0.2, 4.5)], [])
    said = soaked.verdict(0, waiting, 0.3, FLAT)
    assert "WAITED FOR A PROCESSOR" in said
    assert "MISSED" not in said
    assert "no stall above 1 s: MISSED" in soaked.verdict(0, waiting, 2.0, FLAT), (
        "a loop that did not turn is one"
    )
    ours = soaked.stalls([Slow(5.0, 0.0, "GET /", 0.1)], [Turn("beat", 0.0, 5.0, 4.5, 0.2)], [])
    assert "no stall above 1 s: MISSED" in soaked.verdict(0, ours, 0.1, FLAT)
    quick = soaked.stalls([Slow(0.5, 0.0, "GET /", 0.0)], [], [])
    assert "no stall above 1 s: met" in soaked.verdict(0, quick, 0.1, FLAT)
    assert "memory flat: met" in soaked.verdict(0, quick, 0.1, FLAT)
    assert "memory flat: MISSED" in soaked.verdict(0, quick, 0.1, Line(100.0, 106.0, 0.1, 0.0))
    assert "requests that failed: 3, MISSED" in soaked.verdict(3, quick, 0.1, FLAT)


def test_a_line_is_fitted() -> None:
    found = soaked.line([(float(x), 3.0 + 2.0 * x) for x in range(10)])
    assert (round(found.begins, 6), round(found.ends, 6), round(found.slope, 6)) == (3.0, 21.0, 2.0)
    assert found.error < 1e-6
    assert soaked.line([(float(x), float(x % 2)) for x in range(100)]).error > 0


def test_what_grows_from_rest_to_rest_is_no_flat_memory() -> None:
    level = soaked.line([(60.0 * x, 100.0 + x % 2) for x in range(6)])
    leak = soaked.line([(60.0 * x, 100.0 + x % 2 + 1.5 * x) for x in range(6)])
    assert "memory flat: met" in soaked.verdict(0, [], 0.1, level)
    assert "memory flat: MISSED" in soaked.verdict(0, [], 0.1, leak)


def test_a_loop_that_is_kept_is_seen() -> None:
    turns: list[Turn] = []

    def take(told: dict[str, Any]) -> None:
        soaked.take(told, turns)

    async def kept() -> None:
        beat(asyncio.get_running_loop(), take)
        await asyncio.sleep(3 * BEAT)
        time.sleep(0.3)  # a call that blocks
        await asyncio.sleep(3 * BEAT)

    asyncio.run(kept())
    worst = max(turns, key=lambda turn: turn.took)
    assert worst.took >= 0.3
    assert worst.computed < worst.took
    assert worst.kept > 0.1
