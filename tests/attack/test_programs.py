"""The acts of `capsule.attack.programs` stand alone, and do their harm where nothing holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule.attack.case import Case, Verdict
from capsule.attack.programs import FAMILY
from capsule.attack.runner import Arena
from tests.attack.acts import check
from tests.attack.launchers import launcher

SAMPLE = [
    case
    for case in FAMILY.cases
    if case.id in {"process.environment", "process.loader-variables", "process.argument-text"}
]


def test_every_act_stands_alone() -> None:
    check(FAMILY)
    assert len(SAMPLE) == 3


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.id)
def test_without_a_sandbox_the_harm_is_seen(case: Case, tmp_path: Path) -> None:
    with Arena(capsule=launcher(tmp_path), extends="workspace") as arena:
        result = arena.judge(case)
    assert result.verdict is Verdict.FAIL, result.why
