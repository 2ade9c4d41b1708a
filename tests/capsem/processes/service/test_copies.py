"""What can be made of a machine that stands, and what cannot. Machines that run are in tests/vm."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import ConflictError, UsageError
from capsem.host import images, places
from capsem.host.settings import put
from capsem.processes.service import copies
from capsem.processes.service.registry import Registry
from capsem.vm.lifecycle import State
from capsem.vm.record import Record, encode
from capsem.vm.spec import MachineSpec
from tests.capsem.host.made import made_image

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def standing(disk_mib: int | None = 64) -> tuple[Registry, Record]:
    places.prepare()
    image = made_image("base")
    record = Record(
        id="m-0000000a", spec=MachineSpec(image="base", name="build", disk_mib=disk_mib), digest=image.digest,
        created="2026-01-01T00:00:00Z", state=State.STOPPED,
    )  # fmt: skip
    directory = places.session(record.id)
    directory.mkdir(mode=0o700)
    (directory / "session.json").write_bytes(encode(record))
    if disk_mib is not None:
        with (directory / "disk").open("wb") as file:
            file.truncate(disk_mib << 20)
            file.seek(1 << 20)
            file.write(b"what was written")
    registry = Registry()
    await registry.adopt()
    return registry, record


async def test_a_machine_that_stands_becomes_an_image() -> None:
    registry, record = await standing()
    image = await copies.fork(registry, record, "with-tools")
    assert image.disk is not None
    with image.disk.open("rb") as file:
        file.seek(1 << 20)
        assert file.read(16) == b"what was written"
    assert image.manifest.base == record.digest
    assert not (places.session(record.id) / "copies").exists() or not list(
        (places.session(record.id) / "copies").iterdir()
    )
    with pytest.raises(ConflictError, match=r"needed by: m-0000000a, image"):
        images.remove("base")


async def test_what_cannot_be_forked_is_refused_and_leaves_nothing(capsem_home: Path) -> None:
    registry, record = await standing(None)
    with pytest.raises(ConflictError, match="no disk"):
        await copies.fork(registry, record, "x")
    with pytest.raises(ConflictError, match="an image named base"):
        await copies.fork(registry, record, "base")
    with pytest.raises(UsageError, match="cannot name an image"):
        await copies.fork(registry, record, "../x")
    assert len(images.everything()) == 1
    assert not list((capsem_home / "images").glob(".fork*"))


async def test_what_does_not_fit_is_refused_and_leaves_nothing(capsem_home: Path) -> None:
    registry, record = await standing()
    put("limits.home", "1M")
    (places.session(record.id) / "disk").write_bytes(b"x" * (2 << 20))
    with pytest.raises(ConflictError, match=r"the image x does not fit .*limits\.home is 1M .*machine build"):
        await copies.fork(registry, record, "x")
    assert len(images.everything()) == 1
    assert not list((capsem_home / "images").glob(".fork*"))
    put("limits.home", "none")
    await copies.fork(registry, record, "x")


async def test_a_machine_that_stands_has_no_moment_to_go_on_from() -> None:
    registry, record = await standing()
    with pytest.raises(ConflictError, match="build is stopped") as refused:
        await copies.branch(registry, record, 1)
    assert refused.value.next_step == "capsem start build"
    for count, names in ((0, ()), (65, ()), (2, ("a",)), (2, ("a", "a"))):
        with pytest.raises(UsageError):
            await copies.branch(registry, record, count, names)
    assert [one.id for one, _ in await registry.list()] == [record.id]
