"""Memory that ended sessions leave behind: cycles nobody has collected yet, and pages the C library keeps for later.

A session's objects (layers, contexts of TLS, rules) are made and dropped in steps of megabytes, so that what is free
lies scattered; told so, the collector and malloc_trim(3) give it back. Where the C library has no malloc_trim (musl),
only the collector runs. What the program itself was loaded with it is told to leave aside: looking through that is most
of the time for which a collection stops every run. Refuses nothing.

    leftovers = Leftovers(); leftovers.loaded(); leftovers.made(now); leftovers.clear(now)
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

EVERY = 20.0
"""Seconds between two times at least: looking through what runs have made stops all of them meanwhile."""


def _trim() -> Callable[[int], object] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None


class Leftovers:
    """When to clear away, and that once for many sessions."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._last = float("-inf")
        self._trim = _trim()

    @staticmethod
    def loaded() -> None:
        """What there is now (modules, their classes and functions) stays: it is looked through no more."""
        gc.collect()
        gc.freeze()

    def made(self, now: float) -> None:
        """A session has ended at `now`, on the clock `time.monotonic`."""
        if self._since is None:
            self._since = now

    def clear(self, now: float) -> bool:
        """Clear away what ended sessions left, if it is time; whether it was."""
        if self._since is None or now - self._last < EVERY or now - self._since < 1.0:
            return False
        self._since, self._last = None, now
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        return True
