from __future__ import annotations

import pytest

from capsem.process import Power, Process, Trust


def test_who_holds_no_power_starts_nothing() -> None:
    with pytest.raises(ValueError, match="may start programs"):
        Process(name="p", trust=Trust.HOSTILE_INPUT, peers=(), powers=(Power.SPAWN,), refuses="all")
    Process(name="p", trust=Trust.POWER, peers=("q",), powers=(Power.SPAWN,), refuses="nothing")


def test_nobody_is_its_own_peer() -> None:
    with pytest.raises(ValueError, match="own peer"):
        Process(name="p", trust=Trust.POWER, peers=("p",), powers=(), refuses="all")
