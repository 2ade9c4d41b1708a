"""How long work tells what it is at: a step, and how far the step is where that is known.

Refuses to guess: a step whose end is not known has no fraction.

    progress = Silent()
    progress.step("kernel: compiling")
    progress.at(0.4)
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Who is told."""

    def step(self, what: str) -> None:
        """Something new begins."""

    def at(self, fraction: float | None) -> None:
        """How much of the step is done, from 0 to 1; None when its end is not known."""


class Silent:
    """Nobody is told."""

    def step(self, what: str) -> None:
        """Nothing."""

    def at(self, fraction: float | None) -> None:
        """Nothing."""
