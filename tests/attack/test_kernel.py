"""The acts of `capsule.attack.kernel` stand alone, and do their harm where nothing holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule.attack.case import Case
from capsule.attack.kernel import FAMILY
from tests.attack.acts import check, does_harm, sample

SAMPLE = sample(FAMILY, "kernel.personality", "kernel.shared-memory", "kernel.spill")


def test_every_act_stands_alone() -> None:
    check(FAMILY)


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.id)
def test_without_a_sandbox_the_harm_is_seen(case: Case, tmp_path: Path) -> None:
    does_harm(case, tmp_path)
