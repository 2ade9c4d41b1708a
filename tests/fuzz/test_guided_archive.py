"""The reader of a guest's archives, which is there where capsem is."""

from __future__ import annotations

import pytest

pytest.importorskip("capsem", reason="needs capsem: Python 3.12")

from tests.fuzz.archive import ARCHIVE, SEEDS, check, repaired
from tests.fuzz.engine import fuzz


def test_a_bounded_run_finds_nothing_and_gets_further_than_its_seeds() -> None:
    outcome = fuzz(ARCHIVE, seed=1, inputs=6000, seconds=5)
    print(f"archive: {outcome}")
    assert outcome.inputs > len(SEEDS)
    assert outcome.places > outcome.first_places


def test_a_seed_is_read_and_a_repaired_one_is_the_same() -> None:
    assert repaired(SEEDS[0], 1) == SEEDS[0]
    assert ("file", False, False) in check(SEEDS[0])
    assert check(SEEDS[2]) == ("a hard link, which is never taken",)
