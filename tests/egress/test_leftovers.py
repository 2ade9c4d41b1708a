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


def test_what_was_loaded_is_looked_through_no_more_and_what_comes_later_is() -> None:
    before = gc.get_freeze_count()
    Leftovers.loaded()
    try:
        assert gc.get_freeze_count() > before + 10_000
        assert len(gc.get_objects()) < 10_000
        gone = weakref.ref(Node())
        leftovers = Leftovers()
        leftovers.made(0.0)
        assert leftovers.clear(2.0)
        assert gone() is None
    finally:
        gc.unfreeze()
