"""What slow requests of a soak were made of, whether memory grows, and the verdict in words.

Pure. A request's time is: waiting of its client for a processor, waiting of egress for one, lateness of the server's
loop, and the rest. The rest is what the product took, with the network and the work itself.

    stalls(slow, turns_of_egress, turns_of_the_server)[0].rest
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.turns.sitecustomize import BEAT

STALL = 1.0
"""Seconds."""
FLAT = 0.05
"""The part of the memory at half time that the second half may add."""
SHOWN = 5
MOST = 200
"""Requests that are taken apart, the slowest."""


@dataclass(frozen=True)
class Turn:
    """From one beat of a loop to the next, or a callback that took long; seconds."""

    what: str
    at: float
    took: float
    computed: float
    waited: float

    @property
    def late(self) -> float:
        """For how long the loop did not turn, a beat's own time left out."""
        return max(0.0, self.took - (BEAT if self.what == "beat" else 0.0))

    @property
    def kept(self) -> float:
        """So long though its thread had a processor, or was not ready to run."""
        return max(0.0, self.late - self.waited)


@dataclass(frozen=True)
class Slow:
    """A request as its client saw it; `waited`: the client for a processor."""

    took: float
    at: float
    what: str
    waited: float


@dataclass(frozen=True)
class Stall:
    """A request and what it was made of."""

    request: Slow
    egress: float
    server: float
    rest: float


@dataclass(frozen=True)
class Line:
    """A line through a series: its values at both ends, its slope a second, and half the width of its 95 % interval."""

    begins: float
    ends: float
    slope: float
    error: float


def take(told: Mapping[str, Any], into: list[Turn], blocks: list[tuple[float, int]] | None = None) -> None:
    """One object that `sitecustomize` told."""
    if told["what"] == "blocks":
        if blocks is not None:
            blocks.append((told["at"], told["blocks"]))
    else:
        values = (told.get(name, 0.0) for name in ("at", "took", "computed", "waited"))
        into.append(Turn(told["what"], *values))


def stalls(slow: Sequence[Slow], egress: Sequence[Turn], server: Sequence[Turn]) -> list[Stall]:
    """Requests with what they were made of, the one with the longest rest first."""
    found = []
    for one in sorted(slow, key=lambda one: -one.took)[:MOST]:
        waited = sum(_within(turn, one) * turn.waited / turn.took for turn in egress if turn.what == "beat")
        late = sum(_within(turn, one) * turn.late / turn.took for turn in server)
        found.append(Stall(one, waited, late, max(0.0, one.took - one.waited - waited - late)))
    return sorted(found, key=lambda stall: -stall.rest)


def _within(turn: Turn, request: Slow) -> float:
    begin, end = max(turn.at, request.at), min(turn.at + turn.took, request.at + request.took)
    return max(0.0, end - begin)


def line(points: Sequence[tuple[float, float]]) -> Line:
    """Least squares through points in order of time."""
    if len(points) < 3:
        return Line(0.0, 0.0, 0.0, math.inf)
    count = len(points)
    mean_x, mean_y = (sum(values) / count for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points) / (count - 2)
    at = [mean_y + slope * (x - mean_x) for x in (points[0][0], points[-1][0])]
    return Line(at[0], at[1], slope, 1.96 * math.sqrt(rest / spread))


def described(found: Sequence[Stall], turns: Sequence[Turn], start: float) -> dict[str, Any]:
    """The slowest request, the one that is most our own, and what kept the loop of egress longest."""
    facts: dict[str, Any] = {}
    slowest = max(found, key=lambda stall: stall.request.took, default=None)
    for name, one in (
        ("slowest request", slowest),
        ("longest that nobody's waiting explains", found[0] if found else None),
    ):
        if one is not None:
            facts[name] = (
                f"{one.request.took:.2f} s, {one.request.what}, {one.request.at - start:.0f} s after the start: "
                f"for a processor waited its client {one.request.waited:.2f} and egress {one.egress:.2f}, "
                f"the server was late {one.server:.2f}, the rest {one.rest:.2f}"
            )
    late = sorted((turn for turn in turns if turn.at > start), key=lambda turn: -turn.kept)
    beats = [turn for turn in late if turn.what == "beat"]
    if beats:
        facts["loop of egress: longest without a turn, s"] = (
            f"{beats[0].kept:.2f} (computed {beats[0].computed:.2f}; besides it waited {beats[0].waited:.2f})"
        )
    longest = [turn for turn in late if turn.what != "beat"][:SHOWN]
    facts["what kept the loop of egress"] = "; ".join(
        f"{turn.took - turn.waited:.2f} s (computed {turn.computed:.2f}): {turn.what[:120]}"
        for turn in longest
    )
    return facts


def ours(found: Sequence[Stall], kept: float) -> float:
    """The longest that neither a client's, nor egress's, nor the server's wait for a processor explains, in seconds."""
    return max(found[0].rest if found else 0.0, kept)


def verdict(failed: int, found: Sequence[Stall], kept: float, memory: Line) -> str:
    """One sentence a target: met, or by how much it is missed, and by whom."""
    said = [f"requests that failed: {failed}, {'met' if not failed else 'MISSED'}"]
    slowest = max((stall.request.took for stall in found), default=0.0)
    rest = ours(found, kept)
    target = f"no stall above {STALL:.0f} s"
    if slowest <= STALL:
        said.append(f"{target}: met, the slowest request took {slowest:.2f} s")
    elif rest <= STALL:
        said.append(
            f"{target}: the slowest request took {slowest:.2f} s and WAITED FOR A PROCESSOR; the product itself kept "
            f"nobody waiting longer than {rest:.2f} s; repeat it where nothing else runs"
        )
    else:
        said.append(f"{target}: MISSED, the product itself kept somebody waiting {rest:.2f} s")
    grown = memory.ends - memory.begins
    flat = grown <= FLAT * memory.begins
    said.append(
        f"memory flat: {'met' if flat else 'MISSED'}, {grown:+.1f} MB over the second half, {FLAT:.0%} of "
        f"{memory.begins:.0f} MB are allowed"
    )
    return "; ".join(said)
