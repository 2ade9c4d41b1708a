from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from capsem.errors import MachineError, UsageError
from capsem.host.settings import put, user_file
from capsem.processes.service import pool as pool_module
from capsem.processes.service.pool import VARIABLE, Ahead, Pool, size
from capsem.vm.plan import MachinePlan, work_out
from capsem.vm.settings import Settings, read
from capsem.vm.spec import MachineSpec
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]
PLAN = work_out(MachineSpec(), IMAGE, FACTS)
OTHER = replace(PLAN, memory_mib=128)


class Maker:
    """Makes machines that are pipes: the far end is their monitor's."""

    def __init__(self) -> None:
        self.far: list[int] = []
        self.broken = False

    async def __call__(self, plan: MachinePlan) -> Ahead:
        await asyncio.sleep(0)
        if self.broken:
            raise MachineError("it does not boot", next_step="x")
        lease, far = os.pipe()
        self.far.append(far)
        return Ahead(f"m-{len(self.far):08x}", plan, lease)

    def ended(self) -> list[bool]:
        """Of each, whether the service has let go of it: then nobody reads what its monitor writes."""
        found = []
        for far in self.far:
            try:
                os.write(far, b"x")
                found.append(False)
            except BrokenPipeError:
                found.append(True)
        return found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "REST_SECONDS", 0)


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_the_next_of_the_plan_that_was_asked_for_last_are_ready() -> None:
    make = Maker()
    pool = Pool(2, make)
    assert pool.take(PLAN.key) is None
    pool.want(PLAN)
    await settled()
    assert len(make.far) == 2
    assert pool.take(OTHER.key) is None
    first = pool.take(PLAN.key)
    assert first is not None
    assert first.id == "m-00000001"
    pool.want(PLAN)
    await settled()
    assert len(make.far) == 3
    pool.want(OTHER)
    await settled()
    assert make.ended() == [False, True, True, False, False]
    assert pool.take(PLAN.key) is None
    await pool.close()
    first.end()
    assert make.ended() == [True] * 5


async def test_one_that_has_ended_is_not_given_out() -> None:
    make = Maker()
    pool = Pool(2, make)
    pool.want(PLAN)
    await settled()
    os.close(make.far.pop(0))
    found = pool.take(PLAN.key)
    assert found is not None
    assert found.id == "m-00000002"
    found.end()
    assert pool.take(PLAN.key) is None
    await pool.close()


async def test_none_are_kept_unless_a_number_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    monkeypatch.delenv(VARIABLE, raising=False)
    pool = Pool(size(), make)
    pool.want(PLAN)
    await settled()
    assert make.far == []
    monkeypatch.setenv(VARIABLE, "3")
    assert size() == 3
    for wrong in ("x", "-1", "65", "1.5"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(UsageError, match=VARIABLE):
            size()


async def test_the_setting_says_how_many_and_the_variable_goes_before_it(
    capsem_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert size() == 0
    put("service.pool", "2")
    assert user_file().is_relative_to(capsem_home)
    assert size() == 2
    monkeypatch.setenv(VARIABLE, "0")
    assert size() == 0
    monkeypatch.setattr(
        pool_module, "load", lambda: Settings(read("[service]\npool = 1\n", "corp.toml"), None)
    )
    assert size() == 1, "what is locked goes before the variable"


async def test_what_cannot_be_made_is_said_once_and_asked_for_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    make = Maker()
    make.broken = True
    pool = Pool(2, make)
    pool.want(PLAN)
    await settled()
    assert capfd.readouterr().err.count("does not boot") == 1
    make.broken = False
    pool.want(PLAN)
    await settled()
    assert len(make.far) == 2
    await pool.close()


async def test_the_first_command_of_who_was_given_a_machine_goes_before_the_next_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "REST_SECONDS", 0.2)
    make = Maker()
    pool = Pool(1, make)
    pool.want(PLAN)
    await asyncio.sleep(0.05)
    assert make.far == []
    await asyncio.sleep(0.4)
    assert len(make.far) == 1
    await pool.close()
