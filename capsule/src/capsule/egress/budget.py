"""What one run may still use: requests, bytes, tokens, millionths of a dollar. Decided before it is used.

Pure, for one thread; nothing is asked twice, so calls that run side by side share exactly what there is. A call takes
the most it may use out of the budget first, and gives back what it did not use. Refused: what does not fit, everything
after bytes that did not fit, and a call without a known price where dollars are limited. A call that says no maximum
takes one token and, as far as they are there, as many more as calls usually use; it may still use more than is left,
and the next one is refused.

    budget = Budget(Limits(requests=1000, tokens=500_000))
    taken = budget.reserve(requests=1, tokens=4096)
    if isinstance(taken, Reservation):
        taken.settle(tokens=812)           # or taken.release(): it was not sent
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

NEAR = 0.8
"""The part of a limit from which on it is worth a word."""
_NOTHING: Mapping[str, int] = MappingProxyType({})
_NAMES = ("requests", "bytes", "tokens", "microdollars")


@dataclass(frozen=True, slots=True)
class Limits:
    """At most this much in a run; None is no limit."""

    requests: int | None = None
    bytes: int | None = None
    tokens: int | None = None
    microdollars: int | None = None


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Something does not fit any more.

    Attributes:
        what: the limit's name.
        reason: one clause, for a person.
        allow: what would allow it.
    """

    what: str
    reason: str
    allow: str


class Reservation:
    """What one call has taken; settled or released exactly once."""

    def __init__(self, budget: Budget, taken: dict[str, int], least: dict[str, int]) -> None:
        self._budget = budget
        self._least = least
        self._taken: dict[str, int] | None = taken

    def settle(self, *, tokens: int | None = None, microdollars: int | None = None) -> None:
        """The call is over; what it used takes the place of what it had taken. None: unknown, so all of it was used.

        Raises:
            ValueError: it was settled before.
        """
        self._end({"tokens": tokens, "microdollars": microdollars})

    def amount(self, name: str) -> int:
        """What had to be taken of a limit, without what it may use besides."""
        return self._least.get(name, 0)

    def release(self) -> None:
        """Nothing was sent: all of it is given back. Does nothing when it is over already.

        For `finally`: `settle` on the way through, `release` at the end.
        """
        if self._taken is not None:
            self._end(dict.fromkeys(self._taken, 0))

    def _end(self, used: dict[str, int | None]) -> None:
        if self._taken is None:
            raise ValueError("this reservation is settled already")
        taken, self._taken = self._taken, None
        for name, amount in taken.items():
            real = used.get(name)
            self._budget._settle(name, amount, amount if real is None else real)


class Budget:
    """The account of one run."""

    def __init__(self, limits: Limits) -> None:
        self._limits: dict[str, int | None] = {
            field.name: getattr(limits, field.name) for field in fields(limits)
        }
        self._used = dict.fromkeys(_NAMES, 0)
        self._reserved = dict.fromkeys(_NAMES, 0)
        self._told: set[str] = set()
        self._cut: Exhausted | None = None

    @property
    def of_calls(self) -> bool:
        """Whether tokens or dollars are limited: then model calls have to be understood."""
        return self._limits["tokens"] is not None or self._limits["microdollars"] is not None

    def reserve(
        self,
        *,
        requests: int = 0,
        tokens: int = 0,
        microdollars: int | None = 0,
        besides: Mapping[str, int] = _NOTHING,
    ) -> Reservation | Exhausted:
        """Takes what a request or a model call may use; all of it, or nothing.

        Args:
            requests: 1 for a request.
            tokens: the most that a call may read and write; at least 1 for a call that does not say.
            microdollars: what those cost; None: nobody knows.
            besides: tokens and microdollars of a call that says no maximum, of which is taken what is left.
        """
        if microdollars is None:
            if self._limits["microdollars"] is not None:
                return Exhausted(
                    "microdollars",
                    "nobody knows what this call costs, and the run's dollars are limited",
                    "name a model whose price is known, or leave network.budget.dollars out",
                )
            microdollars = 0
        if requests and self._cut is not None:
            return self._cut
        wanted = {"requests": requests, "tokens": tokens, "microdollars": microdollars}
        for name, amount in wanted.items():
            refused = self._refusal(name, amount)
            if refused is not None:
                return refused
        taken = {name: amount + self._fitting(name, amount, besides) for name, amount in wanted.items()}
        for name, amount in taken.items():
            self._reserved[name] += amount
        return Reservation(self, {name: amount for name, amount in taken.items() if amount}, wanted)

    def _fitting(self, name: str, amount: int, besides: Mapping[str, int]) -> int:
        """Of what a call may use besides, what is left behind an amount."""
        limit, more = self._limits[name], besides.get(name, 0)
        if limit is None:
            return more
        return max(0, min(more, limit - self._used[name] - self._reserved[name] - amount))

    def close(self, found: Exhausted) -> None:
        """Nothing fits from here on: what is used is not known any more."""
        self._cut = self._cut or found

    def spend_bytes(self, count: int) -> Exhausted | None:
        """Counts bytes of either direction before they are passed on.

        Nothing is counted when they do not fit, and from then on nothing fits: what is left would let a program ask
        again and again for answers that are thrown away.
        """
        refused = (self._cut if count > 0 else None) or self._refusal("bytes", count)
        if refused is None:
            self._used["bytes"] += count
        else:
            left = refused.reason.partition(" asked for, ")[2]
            what = f"the run's bytes are used up: {count} more did not fit into {left}"
            self._cut = self._cut or Exhausted("bytes", what, refused.allow)
        return refused

    def spend_part(self, count: int) -> tuple[int, Exhausted | None]:
        """As `spend_bytes`, of a stream that may be cut: how many of the bytes fit, and why not all do."""
        limit = self._limits["bytes"]
        left = 0 if limit is None else max(0, limit - self._used["bytes"])
        refused = self.spend_bytes(count)
        if refused is None:
            return count, None
        fits = min(left, count) if refused.what == "bytes" and refused is not self._cut else 0
        self._used["bytes"] += fits
        return fits, refused

    def state(self) -> dict[str, Any]:
        """For the record `egress.budget`: `{name: {used, reserved, limit}}` of what is limited."""
        return {
            name: {"used": self._used[name], "reserved": self._reserved[name], "limit": limit}
            for name, limit in self._limits.items()
            if limit is not None
        }

    def near(self) -> tuple[str, ...]:
        """The limits of which `NEAR` is used since this was asked last; each is told once."""
        new = tuple(
            name
            for name, limit in self._limits.items()
            if limit is not None and name not in self._told and self._used[name] >= NEAR * limit
        )
        self._told.update(new)
        return new

    def _refusal(self, name: str, amount: int) -> Exhausted | None:
        if amount < 0:
            raise ValueError(f"{amount} {name}: not an amount")
        limit = self._limits[name]
        if limit is None or not amount:
            return None
        left = limit - self._used[name] - self._reserved[name]
        if amount <= left:
            return None
        shown, unit = _shown(name)
        field = "dollars" if name == "microdollars" else name
        waiting = (
            f", {shown(self._reserved[name])} of it in calls that still run" if self._reserved[name] else ""
        )
        return Exhausted(
            name,
            f"{shown(amount)} {unit} asked for, {shown(max(left, 0))} left of {shown(limit)} in this run{waiting}",
            f"raise network.budget.{field}",
        )

    def _settle(self, name: str, taken: int, used: int) -> None:
        if used < 0:
            raise ValueError(f"{used} {name}: not an amount")
        self._reserved[name] -= taken
        self._used[name] += used


def _shown(name: str) -> tuple[Any, str]:
    if name == "microdollars":
        return (lambda amount: f"{amount / 1_000_000:.6f}".rstrip("0").rstrip(".")), "dollars"
    return str, name
