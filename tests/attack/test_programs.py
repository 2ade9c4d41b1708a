"""The acts of `capsule.attack.programs` stand alone, and do their harm where nothing holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule.attack.case import Case
from capsule.attack.programs import FAMILY
from tests.attack.acts import check, does_harm, sample

SAMPLE = sample(FAMILY, "process.environment", "process.loader-variables", "process.argument-text")


def test_every_act_stands_alone() -> None:
    check(FAMILY)


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.id)
def test_without_a_sandbox_the_harm_is_seen(case: Case, tmp_path: Path) -> None:
    does_harm(case, tmp_path)
