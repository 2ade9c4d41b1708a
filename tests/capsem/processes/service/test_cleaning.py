from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from capsem.host import keeping, paths, places
from capsem.host.settings import put, user_file
from capsem.processes.service import cleaning
from capsem.processes.service.templates import Templates
from capsem.vm.plan import work_out
from capsem.vm.settings import SettingsError
from capsem.vm.spec import MachineSpec
from tests.capsem.host.made import made_image
from tests.capsem.host.test_keeping import log, old
from tests.capsem.processes.service.test_templates import Boots
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]
PLAN = work_out(MachineSpec(), IMAGE, FACTS)


async def test_shown_first_and_then_removed() -> None:
    places.prepare()
    made_image()
    place = log("m-0000000c")
    (paths.images() / ".building-x").mkdir()
    put("clean.logs", "1")
    templates = Templates(Boots())
    shown = [one.item.name for one in await cleaning.clean(templates, dry=True) if one.goes]
    assert sorted(shown) == ["images/.building-x", "m-0000000c"]
    assert place.exists()
    assert not keeping.recorded_at().exists()
    done = [one.item.name for one in await cleaning.clean(templates, dry=False) if one.goes]
    assert sorted(done) == sorted(shown)
    assert not place.exists()
    assert [one for one in await cleaning.clean(templates, dry=False) if one.goes] == []


async def test_a_template_that_a_machine_starts_from_now_is_not_taken_away() -> None:
    places.prepare()
    boots = Boots()
    templates = Templates(boots)
    first = await templates.get(PLAN)
    mark = first.directory / "complete"
    old(mark)
    await templates.get(PLAN)
    assert mark.stat().st_mtime > 1_500_000_000, "its use is kept"
    # Its image is not among ours, so it goes however new it is; who has it already has it.
    async with templates.left_alone(PLAN.key):
        waiting = asyncio.create_task(cleaning.clean(templates, dry=False))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.5)
        assert first.directory.exists()
    await waiting
    assert not first.directory.exists()
    assert os.pread(first.memory, 10, 0) == b"memory"
    second = await templates.get(PLAN)
    assert boots.count == 2
    assert second.memory != first.memory
    templates.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first.memory)
    os.fstat(second.memory)
    templates.close()


async def test_settings_that_cannot_be_read_clean_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    places.prepare()
    (paths.images()).mkdir()
    (paths.images() / ".building-x").mkdir()
    user_file().write_text("[clean]\nlogs = 0\n")
    templates = Templates(Boots())
    with pytest.raises(SettingsError):
        await cleaning.clean(templates, dry=False)
    going = asyncio.create_task(cleaning.clean_now_and_then(templates))
    said = ""
    while "nothing was cleaned" not in said:
        await asyncio.sleep(0.01)
        said += capfd.readouterr().err
    assert f"{user_file()}:2" in said
    assert (paths.images() / ".building-x").exists()
    going.cancel()
