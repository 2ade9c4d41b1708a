from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from capsem.errors import ConflictError, NotFoundError, UsageError
from capsem.host import paths, places
from capsem.host.settings import put
from capsem.processes.service.kept import shown
from capsem.processes.service.registry import Registry
from capsem.vm.lifecycle import State
from capsem.vm.network import NetworkSpec
from capsem.vm.plan import HostFacts, work_out
from capsem.vm.record import End, Record, decode, encode
from capsem.vm.spec import MachineSpec
from tests.capsem.host.made import made_image
from tests.capsem.host.test_hold import HOLDS
from tests.capsem.processes.monitor.standing import ID, standing
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


def left(
    machine: str, name: str | None = None, state: State = State.RUNNING, network: NetworkSpec | None = None
) -> Record:
    """What an earlier service wrote."""
    places.prepare()
    record = Record(
        id=machine,
        spec=MachineSpec(name=name, network=network),
        digest="d",
        created="2026-01-01T00:00:00Z",
        state=state,
    )
    places.session(machine).mkdir(mode=0o700)
    (places.session(machine) / "session.json").write_bytes(encode(record))
    return record


async def test_what_a_crash_left_is_put_in_order() -> None:
    left("m-0000000a", "named")
    left("m-0000000b")
    (places.session("m-0000000c")).mkdir()
    places.monitor_socket("m-0000000a").touch()
    half = places.session("m-0000000a") / "copies/x"
    half.mkdir(parents=True)
    (half / "disk").write_bytes(b"half of it")
    registry = Registry()
    await registry.adopt()
    assert not half.exists()
    found = await registry.list()
    assert [(record.id, record.state, status) for record, status in found] == [
        ("m-0000000a", State.CRASHED, None)
    ]
    assert not places.session("m-0000000b").exists(), "a temporary machine that has ended is gone"
    assert not places.monitor_socket("m-0000000a").exists()
    kept = places.session("m-0000000a") / "session.json"
    record = decode(kept.read_bytes(), "x")
    assert record.state is State.CRASHED
    assert record.problem is not None
    assert shown(record, None)["next_step"].startswith("capsem logs named, then capsem start named")


@pytest.mark.parametrize("before", [State.RUNNING, State.SUSPENDING, State.STARTING, State.STOPPING])
@pytest.mark.parametrize("end", [End(State.STOPPED), End(State.CRASHED, "QEMU ended with 137")])
async def test_what_a_monitor_left_as_its_last_word_counts(before: State, end: End) -> None:
    left("m-0000000a", "named", before)
    places.end(places.session("m-0000000a")).write_bytes(msgspec.json.encode(end))
    registry = Registry()
    await registry.adopt()
    ((record, _),) = await registry.list()
    assert (record.state, record.problem) == (end.state, end.problem)


@pytest.mark.parametrize("before", [State.RUNNING, State.SUSPENDING, State.SUSPENDED])
async def test_a_machine_is_suspended_as_long_as_what_was_kept_is_there(before: State) -> None:
    left("m-0000000a", None, before)
    directory = places.session("m-0000000a")
    places.suspended(directory).write_bytes(b"state")
    (directory / "suspended.new").write_bytes(b"half of one")
    registry = Registry()
    await registry.adopt()
    ((record, _),) = await registry.list()
    assert record.state is State.SUSPENDED
    assert not (directory / "suspended.new").exists()
    for refused in (registry.start(record), registry.stop(record), registry.suspend(record)):
        with pytest.raises(ConflictError, match="suspended"):
            await refused
    assert places.suspended(directory).exists()
    assert await registry.stop(record, force=True) is None
    assert not directory.exists(), "a temporary machine that is stopped is gone"


async def test_what_was_kept_and_is_gone_is_no_suspended_machine() -> None:
    left("m-0000000a", "named", State.SUSPENDED)
    registry = Registry()
    await registry.adopt()
    ((record, _),) = await registry.list()
    assert record.state is State.CRASHED
    with pytest.raises(ConflictError, match="not suspended"):
        await registry.resume(record)


async def test_what_was_kept_by_another_qemu_is_not_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    record = left("m-0000000a", "named", State.SUSPENDED)
    directory = places.session(record.id)
    places.suspended(directory).write_bytes(b"state")
    (directory / "plan.json").write_bytes(msgspec.json.encode(work_out(record.spec, IMAGE, FACTS)))

    async def other(self: Registry) -> HostFacts:
        del self
        return dataclasses.replace(FACTS, qemu="99.0.0")

    monkeypatch.setattr(Registry, "facts", other)
    registry = Registry()
    await registry.adopt()
    with pytest.raises(ConflictError, match=r"kept with QEMU 7\.2\.22 .* has 99\.0\.0"):
        await registry.resume(registry.find("named"))
    assert places.suspended(directory).exists()


async def test_a_temporary_machine_is_given_a_name_once() -> None:
    left("m-0000000a", None, State.SUSPENDED)
    places.suspended(places.session("m-0000000a")).write_bytes(b"state")
    left("m-0000000b", "taken", State.STOPPED)
    registry = Registry()
    await registry.adopt()
    record = registry.find("m-0000000a")
    for name, error in (("taken", ConflictError), ("Not A Name", UsageError)):
        with pytest.raises(error):
            await registry.persist(record, name)
    await registry.persist(record, "kept")
    assert registry.find("kept").spec.persistent
    with pytest.raises(ConflictError, match="named kept already"):
        await registry.persist(record, "again")
    again = Registry()
    await again.adopt()
    assert again.find("kept").id == "m-0000000a"


async def test_a_restart_that_would_lose_what_was_written_has_to_be_meant() -> None:
    left("m-0000000a", "named", State.STOPPED)
    registry = Registry()
    await registry.adopt()
    with pytest.raises(ConflictError, match="no disk"):
        await registry.restart(registry.find("named"))


async def test_a_machine_that_runs_is_taken_over(tmp_path: Path) -> None:
    left(ID)
    async with standing(tmp_path):
        registry = Registry()
        await registry.adopt()
        ((record, status),) = await registry.list()
        assert status is not None
        assert shown(record, status)["status"]["state"] == "running"
        with pytest.raises(ConflictError, match="is running"):
            await registry.start(record)


async def test_what_makes_no_sense_leaves_nothing() -> None:
    left("m-aaaa0001", "build", State.STOPPED)
    registry = Registry()
    await registry.adopt()
    with pytest.raises(UsageError):
        await registry.create(MachineSpec(cpus=0))
    with pytest.raises(NotFoundError, match="no image") as caught:
        await registry.create(MachineSpec(name="new"))
    assert "capsem image build" in caught.value.next_step
    assert [one.name for one in places.session("x").parent.iterdir()] == ["m-aaaa0001"]


async def test_delete_takes_everything_but_the_record() -> None:
    record = left("m-aaaa0001", "build", State.STOPPED)
    places.log(record.id).write_text("evidence")
    registry = Registry()
    await registry.adopt()
    await registry.delete(registry.find("build"))
    assert not places.session(record.id).exists()
    assert places.log(record.id).read_text() == "evidence"
    assert await registry.list() == []


async def test_how_many_there_may_be() -> None:
    put("limits.machines", "1")
    registry = Registry()
    await registry.added(MachineSpec(), "d")
    with pytest.raises(ConflictError, match=r"limits\.machines is 1"):
        await registry.added(MachineSpec(), "d")


async def test_a_machine_that_does_not_fit_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async def known(self: Registry) -> HostFacts:
        del self
        return FACTS

    monkeypatch.setattr(Registry, "facts", known)
    places.prepare()
    made_image()
    registry = Registry()
    for name, value, said in (
        ("limits.home", "1M", r"the machine build does not fit and may take 512\.0M more"),
        ("limits.disk", "64M", r"larger than limits\.disk"),
    ):
        put(name, value)
        with pytest.raises(ConflictError, match=said):
            await registry.create(MachineSpec(name="build", disk_mib=128))
        put(name, "none")
        assert await registry.list() == []
        assert list(paths.sessions().iterdir()) == []


async def test_a_directory_that_no_machine_is_let_into_is_not_shared_whoever_asks() -> None:
    with pytest.raises(UsageError, match="/etc is not shared live"):
        await Registry().create(MachineSpec(workspace="/etc", share="live"))
    with pytest.raises(UsageError, match="Capsem and Capsule keep logs"):
        await Registry().create(MachineSpec(workspace=str(places.prepare() / "logs"), share="live"))


async def test_what_was_never_begun_goes_and_what_cannot_be_read_is_passed_over(
    capfd: pytest.CaptureFixture[str],
) -> None:
    left("m-0000000a", "half", State.CREATED)
    left("m-0000000b", "whole", State.STOPPED)
    left("m-0000000c", "torn")
    torn = places.session("m-0000000c") / "session.json"
    torn.write_bytes(b"")
    registry = Registry()
    await registry.adopt()
    assert [record.spec.name for record, _ in await registry.list()] == ["whole"]
    assert not places.session("m-0000000a").exists()
    assert torn.exists(), "it may be mended"
    assert f"{torn} is no record of a machine" in capfd.readouterr().err


async def test_a_monitor_that_does_not_listen_yet_is_left_alone_and_ended_by_force() -> None:
    """A service was killed while it started a machine, and another one came before that had ended."""
    left("m-0000000a", None, State.STARTING)
    directory = places.session("m-0000000a")
    (directory / "copies/x").mkdir(parents=True)
    monitor = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDS,
        str(directory),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert monitor.stdout is not None
    child = int(await monitor.stdout.readline())
    try:
        registry = Registry()
        await registry.adopt()
        ((record, status),) = await registry.list()
        assert (record.state, status) == (State.STARTING, None)
        assert (directory / "copies/x").exists()
        await registry.delete(record, force=True)
        assert await monitor.wait() == -signal.SIGKILL
        assert not directory.exists()
        assert await registry.list() == []
    finally:
        os.kill(child, signal.SIGKILL)
        if monitor.returncode is None:
            monitor.kill()


async def test_what_is_being_begun_is_not_taken_for_ended() -> None:
    record = left("m-0000000a", None, State.STARTING)
    registry = Registry()
    registry._records[record.id] = record
    with registry._begun(record):
        assert await registry.list() == [(record, None)]
    assert await registry.list() == [], "the control: one that nobody begins has ended"


async def test_a_machine_that_is_being_removed_is_none_from_the_first_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = left("m-0000000a", "named", State.STOPPED)
    (places.session(record.id) / "disk").touch()
    registry = Registry()
    await registry.adopt()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        await registry.delete(registry.find("named"))
    assert (places.session(record.id) / "disk").exists(), "killed in the middle of it"
    again = Registry()
    await again.adopt()
    assert await again.list() == []
    assert not places.session(record.id).exists()
