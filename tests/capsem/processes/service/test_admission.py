from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from capsem.errors import CapsemError, ConflictError, ImageError, NotFoundError, UsageError
from capsem.host import places
from capsem.host.settings import user_file
from capsem.processes.service import copies
from capsem.processes.service.admission import (
    allowed,
    fits,
    image_files,
    looked_up,
    not_live,
    with_disk_of,
)
from capsem.vm.network import NetworkSpec
from capsem.vm.settings import Settings, SettingsError, read
from capsem.vm.spec import MachineSpec
from tests.capsem.processes.service.test_copies import standing

pytestmark = [pytest.mark.usefixtures("capsem_home")]


def test_what_is_locked() -> None:
    held = Settings(read('[machine]\nmemory = "1G"\npolicy = "/etc/p.yaml"\n', "corp.toml"), None)
    network = NetworkSpec("/etc/p.yaml", "d", "{}")
    allowed(MachineSpec(memory_mib=1024, network=network), held)
    for spec in (MachineSpec(memory_mib=512, network=network), MachineSpec(memory_mib=1024)):
        with pytest.raises(UsageError, match=r"is locked to .* by corp.toml:"):
            allowed(spec, held)


@pytest.mark.asyncio
async def test_what_may_not_be_is_said_before_an_image_is_looked_for() -> None:
    places.prepare()
    with pytest.raises(NotFoundError, match="no image 'none'"):
        await looked_up(MachineSpec(image="none"))
    with pytest.raises(UsageError):
        await looked_up(MachineSpec(image="none", workspace=str(places.run()), share="live"))
    user_file().write_text("nonsense")
    with pytest.raises(SettingsError, match="no TOML"):
        await looked_up(MachineSpec(image="none"))


@pytest.mark.asyncio
async def test_an_image_that_was_changed_is_refused_however_often_it_was_looked_up() -> None:
    registry, record = await standing()
    await copies.fork(registry, record, "with-tools")
    for name in (record.spec.image, "with-tools"):
        for _ in range(2):
            assert (await looked_up(MachineSpec(image=name)))[1] == image_files(name)
    kernel = Path(image_files(record.spec.image).kernel)
    kernel.chmod(0o600)
    kernel.write_bytes(kernel.read_bytes()[::-1])
    for name in (record.spec.image, "with-tools"):
        with pytest.raises(ImageError):
            await looked_up(MachineSpec(image=name))


@pytest.mark.asyncio
async def test_a_machine_with_a_live_share_is_not_copied() -> None:
    registry, record = await standing()
    not_live(record, "forked")
    live = msgspec.structs.replace(record, spec=MachineSpec(name="build", workspace="/w", share="live"))
    acts = {
        "suspended": registry.suspend(live), "forked": copies.fork(registry, live, "x"),
        "branched": copies.branch(registry, live, 1),
    }  # fmt: skip
    for act, doing in acts.items():
        with pytest.raises(ConflictError, match=f"build shares /w live, so it cannot be {act}"):
            await doing


@pytest.mark.asyncio
async def test_the_disk_is_that_of_the_image_where_it_brings_one() -> None:
    registry, record = await standing()
    await copies.fork(registry, record, "with-tools")
    image = image_files("with-tools")
    assert with_disk_of(MachineSpec(image="with-tools", disk_mib=4096), image).disk_mib == 64
    for other in (None, 128):
        with pytest.raises(UsageError, match="brings a disk of 64 MiB"):
            with_disk_of(MachineSpec(image="with-tools", disk_mib=other), image)
    with pytest.raises(CapsemError, match="no-such"):
        image_files("no-such")


def test_a_disk_larger_than_the_limit_is_refused_with_the_file_that_decides() -> None:
    held = Settings(read('[limits]\ndisk = "1G"\n', "corp.toml"), None)
    for size in (None, 1024):
        fits(MachineSpec(disk_mib=size), held)
    with pytest.raises(ConflictError, match=r"limits\.disk, which is 1G \(corp\.toml:2\)") as refused:
        fits(MachineSpec(disk_mib=4096), held)
    assert "--disk 1024M" in (refused.value.next_step or "")
