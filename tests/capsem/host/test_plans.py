from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from capsem.host.plans import read_plan, write_plan
from capsem.vm.plan import work_out
from capsem.vm.spec import MachineSpec
from tests.capsem.vm.test_plan import FACTS, IMAGE


def test_a_plan_is_read_as_it_was_written_and_is_its_owners(tmp_path: Path) -> None:
    plan = work_out(MachineSpec(), IMAGE, FACTS)
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o600


def test_what_is_no_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_plan(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(msgspec.MsgspecError):
        read_plan(tmp_path)
