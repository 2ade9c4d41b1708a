"""Reports of a guest on the log: labelled, bounded, and a flood of them keeps nobody waiting."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from capsem.errors import MachineError
from capsem.host import places
from capsem.host.reports import Reports
from capsem.processes.monitor import reporting
from capsem.processes.monitor.machine import Machine
from capsem.processes.monitor.reporting import AT_ONCE, ENTRY, PROGRAMS, Reporting, take, watch
from capsem.processes.monitor.running import now
from capsem.vm.network import NOTHING, NetworkSpec, TextFile
from capsem.vm.spec import MachineSpec
from capsem.wire.guest import Change, Ended, Lost, Ran
from capsule.rules.entry import event_of
from tests.capsem.processes.monitor.standing import ID, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]
USER: dict[str, Any] = {"uid": os.getuid(), "gid": os.getgid()}


class Kept:
    """Entries, and a clock that goes where it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self.seconds = 100.0
        self.reporting = Reporting(self.write, lambda: "2026-01-01T00:00:00Z", lambda: self.seconds)

    async def write(self, kind: str, fields: dict[str, Any]) -> None:
        self.entries.append((kind, fields))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.entries if name == kind]


def ran(pid: int = 7, **other: Any) -> Ran:
    fields: dict[str, Any] = {"parent": 1, "uid": 0, "program": "/bin/ls", "argv": ("ls", "-l"), "cut": False}
    return Ran(pid, **{**fields, **other})


async def test_every_entry_says_whose_word_it_is() -> None:
    kept = Kept()
    assert await kept.reporting.record([
        ran(), ran(8, parent=7, program=None, argv=("/x/cat", ""), cut=True), ran(9, parent=None, uid=None, argv=None),
        Ended(7, None, 9), Ended(8, 0, None), Change("attributes", "/w/a.py", None), Change("rename", "/w/b", "/w/a"),
        Lost("directories", 3),
    ])  # fmt: skip
    assert all(fields["reported_by"] == "guest" for _, fields in kept.entries)
    kinds = [kind for kind, _ in kept.entries]
    assert kinds == ["guest.process"] * 3 + ["guest.exit"] * 2 + ["guest.file"] * 2 + ["guest.lost"]
    first, second, third = kept.of("guest.process")
    assert first["process"] == {
        "pid": 7, "path": "/bin/ls", "name": "ls", "argv": ["ls", "-l"], "command": "ls -l", "parent": 1, "uid": 0,
    }  # fmt: skip
    assert second["program"] == {"pid": 7, "path": "/bin/ls", "name": "ls", "reported_by": "guest"}
    assert (second["process"]["name"], second["process"]["cut"]) == ("cat", True)
    assert "path" not in second["process"]
    assert third["process"] == {"pid": 9, "path": "/bin/ls", "name": "ls"}
    assert "program" not in third
    killed, fine = kept.of("guest.exit")
    assert (killed["process"]["name"], killed["signal"], fine["code"]) == ("ls", 9, 0)
    changed, renamed = kept.of("guest.file")
    assert changed["file"] == {"operation": "change", "path": "/w/a.py", "name": "a.py", "ext": "py"}
    assert (renamed["file"]["operation"], renamed["file"]["from"]) == ("rename", "/w/a")
    for kind, fields in kept.entries[:3]:
        name, event = event_of({"type": kind, "seq": 1, "time": "t", "mono": 1, "run": "r", **fields})
        assert (name, event["event"]["type"]) == ("process", "process")


async def test_a_flood_is_counted_and_the_count_is_recorded() -> None:
    kept = Kept()
    change = Change("write", "/w/" + "x" * 1000, None)
    assert not await kept.reporting.record([change] * 10_000)
    written = len(kept.of("guest.file"))
    assert written <= AT_ONCE // (1000 + ENTRY)
    assert kept.of("guest.lost") == [{"what": "changes", "count": 10_000 - written, "by": "host"}]
    # Within a second no other gap is recorded, and after it one is.
    assert not await kept.reporting.record([change, Lost("processes", (1 << 63) - 1)])
    assert len(kept.of("guest.lost")) == 1
    kept.seconds += 2
    assert await kept.reporting.record([])
    assert {entry["by"]: entry["count"] for entry in kept.of("guest.lost")[1:]} == {
        "host": 1, "guest": (1 << 53) - 1,
    }  # fmt: skip
    assert await kept.reporting.record([change]), "what was earned meanwhile is there"
    assert not await kept.reporting.record([change] * 10_000)
    assert await kept.reporting.record([ran()]), "a flood of files hides no program"


async def test_what_is_known_of_programs_has_an_end() -> None:
    kept = Kept()
    for pid in range(1, PROGRAMS + 100):
        kept.seconds += 1
        await kept.reporting.record([ran(pid)])
    assert len(kept.reporting._programs) == PROGRAMS


async def test_a_number_that_is_anothers_has_nothing_of_its_last_program() -> None:
    kept = Kept()
    await kept.reporting.record([ran(7), ran(7, program=None, argv=None), Ended(7, 0, None)])
    assert kept.of("guest.exit")[0]["process"] == {"pid": 7}


async def test_what_is_nobody_s_is_dropped_and_a_log_that_is_gone_ends_it() -> None:
    kept = Kept()
    spec: list[MachineSpec] = []
    reports = Reports(pause=lambda: None, resume=lambda: None)
    reports.put(ran())
    task = asyncio.create_task(take(reports, kept.write, now, lambda: spec[0] if spec else None))
    while reports._waiting:
        await asyncio.sleep(0)
    assert kept.entries == []
    spec.append(MachineSpec())
    reports.put(ran(8))
    while not kept.entries:
        await asyncio.sleep(0)
    # What has come when it ends is recorded.
    reports.put(ran(9))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [fields["process"]["pid"] for _, fields in kept.entries] == [8, 9]

    async def gone(kind: str, fields: dict[str, Any]) -> None:
        raise MachineError("gone", next_step="x")

    reports.put(ran(10))
    await asyncio.wait_for(take(reports, gone, now, MachineSpec), 10)


SIGMA = """\
title: A listing
id: 7b1f7a52-9b3e-4a53-9c39-0d8f0a8f6f10
status: test
level: high
logsource:
  category: process_creation
detection:
  selection:
    Image|endswith: /ls
  condition: selection
"""


def detecting(text: str) -> NetworkSpec:
    plan = {**NOTHING, "detect": [{"path": "/sigma/one.yml"}]}
    return NetworkSpec("p", "d", json.dumps(plan), (TextFile("/sigma/one.yml", text),))


async def test_detection_finds_and_decides_nothing() -> None:
    kept = Kept()
    spec = MachineSpec(network=detecting(SIGMA))
    reports = Reports(pause=lambda: None, resume=lambda: None)
    task = asyncio.create_task(take(reports, kept.write, now, lambda: spec))
    for report in (ran(7), ran(8, program="/bin/cat"), Change("write", "/w/a", None)):
        reports.put(report)
    async with asyncio.timeout(60):
        while not kept.of("guest.finding"):
            await asyncio.sleep(0.02)
    (finding,) = kept.of("guest.finding")
    assert (finding["rule"]["title"], finding["events"], finding["reported_by"]) == (
        "A listing", ["guest-1"], "guest",
    )  # fmt: skip
    assert len(kept.of("guest.process")) == 2
    # What is held when the machine ends is looked at.
    reports.put(ran(9))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(kept.of("guest.finding")) in {1, 2}, "equal ones within a second are one"
    assert [entry["process"]["pid"] for entry in kept.of("guest.process")] == [7, 8, 9]


async def test_detection_that_does_not_compile_is_on_the_log_and_reports_go_on() -> None:
    kept = Kept()
    spec = MachineSpec(network=detecting("title: [broken"))
    reports = Reports(pause=lambda: None, resume=lambda: None)
    reports.put(ran())
    task = asyncio.create_task(take(reports, kept.write, now, lambda: spec))
    async with asyncio.timeout(60):
        while not kept.of("guest.process"):
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert kept.of("machine.network_problem")[0]["problems"]


@pytest_asyncio.fixture
async def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Machine, Path]]:
    """A machine whose agent, an ordinary process, tells of changes in a directory; its log is taken up."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.setattr(reporting, "WATCHED", (str(place),))
    async with standing(tmp_path) as machine:
        channel = machine.channel
        await channel.watch(changes=[str(place)])
        task = asyncio.create_task(take(channel.reports, machine.evidence.write, now, MachineSpec))
        try:
            yield machine, place
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def logged(kind: str) -> list[dict[str, Any]]:
    log = places.log(ID)
    # It is being written: its last line may not be whole, and its first may not be there.
    lines = log.read_text().rpartition("\n")[0].splitlines() if log.exists() else []
    return [entry for entry in map(json.loads, lines) if entry.get("type") == kind]


async def until(what: Any) -> None:
    async with asyncio.timeout(120):
        while not what():
            await asyncio.sleep(0.05)


async def test_what_a_command_does_is_on_the_log(told: tuple[Machine, Path]) -> None:
    machine, place = told
    job = await machine.channel.exec(["sh", "-c", "echo x > a; mv a b; mkdir c"], cwd=str(place), **USER)
    assert (await job.wait()).code == 0
    await until(lambda: len(logged("guest.file")) >= 3)
    found = [(entry["file"]["operation"], entry["file"]["name"]) for entry in logged("guest.file")]
    assert found == [("create", "a"), ("rename", "b"), ("create", "c")]


async def test_a_flood_of_changes_leaves_a_gap_and_keeps_no_command_waiting(
    told: tuple[Machine, Path],
) -> None:
    machine, place = told
    flood = "import os\nfor n in range(60000):\n os.close(os.open(f'{n % 50000}', os.O_CREAT | os.O_WRONLY))"
    job = await machine.channel.exec([sys.executable, "-c", flood], cwd=str(place), **USER)
    done = asyncio.create_task(job.wait())
    ran = 0
    while not done.done():
        other = await machine.channel.exec(["true"], **USER)
        assert (await asyncio.wait_for(other.wait(), 60)).code == 0
        ran += 1
    assert (await done).code == 0
    await until(lambda: logged("guest.lost"))
    assert ran > 0
    assert 0 < len(logged("guest.file")) < 50_000

    def again() -> bool:
        (place / f"last-{time.monotonic_ns()}").write_text("x")
        return any(entry["file"]["name"].startswith("last-") for entry in logged("guest.file"))

    # It tells again once what was told has been counted.
    await until(again)


async def test_that_a_machine_cannot_tell_is_on_its_log(tmp_path: Path) -> None:
    # Outside of a machine the agent has no kernel of its own that tells of processes.
    async with standing(tmp_path) as machine:
        await watch(machine.channel, machine.evidence.write)
        await until(lambda: logged("machine.unreported"))
    assert "cannot report" in logged("machine.unreported")[0]["reason"]


async def test_a_guest_that_loses_without_end_is_read_slowly() -> None:
    kept = Kept()
    assert await kept.reporting.record([Lost("changes", 1)] * 3)
    assert not await kept.reporting.record([Lost("changes", 1)] * (reporting.LOSSES + 1))
