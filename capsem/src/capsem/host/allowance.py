"""How much may be done in a time: so much a second, and some more at once. Pure: the moment is an argument.

Refuses nothing itself: `take` says whether there was room, `owe` how long to wait until there is.

    two = Allowance(a_second=2, at_once=2, now=0.0)
    two.take(0.0), two.take(0.0), two.take(0.0), two.take(0.5)       # True, True, False, True
"""

from __future__ import annotations


class Allowance:
    """What may still be done.

    Args:
        a_second: what is earned.
        at_once: what it comes to at the most, and is at first.
        now: the moment, seconds of any clock that does not go back.
    """

    def __init__(self, a_second: float, at_once: float, now: float) -> None:
        self._a_second, self._at_once = a_second, at_once
        self._room, self._since = at_once, now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._earn(now)
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def owe(self, now: float) -> float:
        """Take one in any case; seconds until it is earned, 0 where it is."""
        self._earn(now)
        self._room -= 1
        return max(0.0, -self._room / self._a_second)

    def _earn(self, now: float) -> None:
        self._room = min(self._at_once, self._room + (now - self._since) * self._a_second)
        self._since = now
