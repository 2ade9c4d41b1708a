from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from capsem.errors import MachineError, NoRoomError
from capsem.host.settings import put
from capsem.processes.monitor import evidence as evidence_module
from capsem.processes.monitor.evidence import Evidence, fitting, when_there_is_room

pytestmark = pytest.mark.asyncio


async def test_what_is_written_is_on_the_log_in_order(tmp_path: Path) -> None:
    evidence = await Evidence.open(tmp_path / "c.log", "m-1")
    for number in range(3):
        await evidence.write("machine.exec", {"argv": ["x" * 100_000, str(number)], "share": 0.5})
    await evidence.close()
    lines = [json.loads(line) for line in (tmp_path / "c.log").read_text().splitlines()]
    found = [line for line in lines if line.get("type") == "machine.exec"]
    assert [(line["run"], line["argv"][1], line["share"]) for line in found] == [
        ("r-m-1", "0", "0.5"), ("r-m-1", "1", "0.5"), ("r-m-1", "2", "0.5"),
    ]  # fmt: skip


async def test_a_recorder_that_is_gone_stops_everything(tmp_path: Path) -> None:
    evidence = await Evidence.open(tmp_path / "none/c.log", "m-1")
    await evidence._process.wait()
    with pytest.raises(MachineError, match="cannot be recorded"):
        await evidence.write("machine.exec", {})
    await evidence.close()


async def test_a_recorder_of_a_machine_that_is_nobody_s_makes_no_log(tmp_path: Path) -> None:
    evidence = await Evidence.open(tmp_path / "c.log", "m-1", ahead=True)
    await evidence.close()
    assert evidence._process.returncode == 0
    assert not (tmp_path / "c.log").exists()


async def test_a_recorder_that_was_begun_ahead_records_as_any_other(tmp_path: Path) -> None:
    evidence = await Evidence.open(tmp_path / "c.log", "m-1", ahead=True)
    assert not (tmp_path / "c.log").exists()
    await evidence.write("machine.started", {})
    assert await evidence.checkpoint()
    await evidence.close()
    kinds = [json.loads(line).get("type") for line in (tmp_path / "c.log").read_text().splitlines()]
    assert "machine.started" in kinds


async def test_a_recorder_that_was_begun_ahead_and_cannot_write_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "c.log").mkdir()
    evidence = await Evidence.open(tmp_path / "c.log", "m-1", ahead=True)
    await evidence.write("machine.started", {})
    assert await evidence._process.wait() == 125
    with pytest.raises(MachineError, match="cannot be recorded"):
        await evidence.write("machine.exec", {})
    await evidence.close()


async def test_what_does_not_fit_is_cut_and_says_so() -> None:
    assert fitting("x" * 5000) == "x" * 4096 + "… (5000 characters)"
    assert fitting(list(range(300)))[-1] == "… (300 items)"
    assert fitting({"a": {"b": 1.5, "c": None, "d": True}}) == {"a": {"b": "1.5", "c": None, "d": True}}


async def test_a_checkpoint_has_everything_that_was_written_before_it(tmp_path: Path) -> None:
    evidence = await Evidence.open(tmp_path / "c.log", "m-1")
    try:
        await evidence.write("machine.copied", {"copy": "one"})
        first = (await evidence.checkpoint()).split("\n")
        again = (await evidence.checkpoint()).split("\n")
    finally:
        await evidence.close()
    entries = [line for line in (tmp_path / "c.log").read_text().splitlines() if line.startswith('{"seq"')]
    copied = next(number for number, line in enumerate(entries) if "machine.copied" in line)
    assert first[0].startswith("capsule.log/")
    assert copied < int(first[1]) < int(again[1]) <= len(entries)


async def test_a_recorder_that_is_gone_gives_no_checkpoint(tmp_path: Path) -> None:
    evidence = await Evidence.open(tmp_path / "none/c.log", "m-1")
    await evidence._process.wait()
    with pytest.raises(MachineError, match="cannot be recorded"):
        await evidence.checkpoint()
    await evidence.close()


def types(log: Path) -> list[str]:
    return [str(json.loads(line).get("type")) for line in log.read_text().splitlines()]


async def ended(evidence: Evidence) -> None:
    """What was written is on the log."""
    await evidence.close()
    assert evidence._process.returncode == 0


@pytest.mark.usefixtures("capsem_home")
async def test_a_log_is_no_larger_than_it_may_be_and_goes_on_when_that_is_raised(tmp_path: Path) -> None:
    put("limits.log", "1M")
    log = tmp_path / "c.log"
    evidence = await Evidence.open(log, "m-1")
    written = 0

    async def fill() -> None:
        nonlocal written
        while written < 10_000:
            await evidence.write("guest.file", {"path": "x" * 4000, "number": written})
            written += 1
            if written % 20 == 0:
                await asyncio.sleep(0.15)

    with pytest.raises(NoRoomError, match=r"limits\.log is 1M") as caught:
        await fill()
    assert "capsem config set limits.log" in caught.value.next_step
    for _ in range(3):
        with pytest.raises(NoRoomError):
            await evidence.write("machine.exec", {"argv": ["no room"]})
    # What was begun is told to its end.
    await evidence.write("machine.exit", {"exec": "host-1", "code": 0})
    put("limits.log", "2M")
    await evidence.write("machine.exec", {"argv": ["goes on"]})
    await ended(evidence)
    found = types(log)
    assert found.count("guest.file") == written, "nothing that was taken is missing"
    told = [kind for kind in found if kind.startswith("machine.")]
    assert told == ["machine.log_full", "machine.exit", "machine.log_goes_on", "machine.exec"]
    assert '"refused":4' in log.read_text()
    assert log.stat().st_size < (1 << 20) + (256 << 10)


@pytest.mark.usefixtures("capsem_home")
async def test_a_disk_that_is_nearly_full_refuses_what_has_not_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "c.log"
    evidence = await Evidence.open(log, "m-1")
    await evidence.write("machine.exec", {"argv": ["before"]})
    with monkeypatch.context() as patch:
        patch.setattr(evidence_module, "LEFT", 1 << 62)
        with pytest.raises(NoRoomError, match=f"the disk of {tmp_path} is full") as caught:
            await evidence.write("machine.exec", {"argv": ["no room"]})
        assert "capsem clean" in caught.value.next_step
        patch.setattr(evidence_module, "ROOM_SECONDS", 0.05)
        waiting = asyncio.create_task(when_there_is_room(evidence.write, "egress.dns", {"name": "a.example"}))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    await waiting
    await ended(evidence)
    assert [kind for kind in types(log) if kind.startswith(("machine.", "egress."))] == [
        "machine.exec", "machine.log_full", "machine.log_goes_on", "egress.dns",
    ]  # fmt: skip


async def flood(evidence: Evidence) -> None:
    for _ in range(1000):
        await evidence.write("guest.file", {"path": "x" * 4000})


@pytest.mark.usefixtures("capsem_home")
async def test_a_recorder_that_takes_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_module, "_TAKE_SECONDS", 0.2)
    evidence = await Evidence.open(tmp_path / "c.log", "m-1")
    os.kill(evidence._process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(NoRoomError, match="nothing more fits"):
            await flood(evidence)
        # What happened is handed over, whenever it is taken.
        await evidence.write("machine.exit", {"exec": "host-1", "code": 0})
    finally:
        os.kill(evidence._process.pid, signal.SIGCONT)
    await ended(evidence)
    assert "machine.exit" in types(tmp_path / "c.log")
