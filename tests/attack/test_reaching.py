"""The acts of `capsule.attack.reaching` stand alone, and do their harm where nothing holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule.attack.case import Case, Verdict
from capsule.attack.reaching import FAMILY
from capsule.attack.runner import Arena
from tests.attack.acts import check
from tests.attack.launchers import launcher

SAMPLE = {"egress.protocols", "egress.address"}


def test_every_act_stands_alone() -> None:
    check(FAMILY)
    assert len(FAMILY.cases) >= 17


@pytest.mark.needs("egress", "userns")
@pytest.mark.parametrize(
    "case", [case for case in FAMILY.cases if case.id in SAMPLE], ids=lambda case: case.id
)
def test_without_a_sandbox_the_harm_is_seen(case: Case, tmp_path: Path) -> None:
    with Arena(capsule=launcher(tmp_path), extends="workspace") as arena:
        assert arena.perform(case, confined=False).notes["verdict"]
        assert arena.judge(case).verdict is not Verdict.PASS
