from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.processes.monitor.evidence import Evidence, fitting

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
