"""When memory of ended sessions is given back, and that it is."""

from __future__ import annotations

import gc
import weakref

from capsule.egress.leftovers import EVERY, Leftovers


class Node:
    """A cycle, which only the collector takes away."""

    def __init__(self) -> None:
        self.me = self


def test_once_for_many_sessions_and_not_at_once() -> None:
    leftovers = Leftovers()
    assert not leftovers.clear(0.0), "nothing has ended"
    leftovers.made(10.0)
    leftovers.made(10.9)
    assert not leftovers.clear(10.5)
    assert leftovers.clear(11.0)
    assert not leftovers.clear(12.0)
    leftovers.made(13.0)
    assert not leftovers.clear(11.0 + EVERY - 0.1)
    assert leftovers.clear(11.0 + EVERY)


def test_cycles_are_gone() -> None:
    gc.disable()
    try:
        gone = weakref.ref(Node())
        assert gone() is not None
        leftovers = Leftovers()
        leftovers.made(0.0)
        assert leftovers.clear(2.0)
        assert gone() is None
    finally:
        gc.enable()
