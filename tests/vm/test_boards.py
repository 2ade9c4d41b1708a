"""The larger board, which is there for hosts on which the small one does not boot: booted, kept and cloned for real."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from capsem.host import memory, places
from capsem.host.facts import host_facts
from capsem.host.programs import find_qemu
from capsem.processes.monitor.machine import Machine
from capsem.processes.monitor.template import make
from capsem.processes.service.admission import image_files
from capsem.vm.plan import Accelerator, Board, work_out
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.needs("images", "qemu"),
    pytest.mark.timeout(900),
    pytest.mark.slow,
    pytest.mark.xdist_group("machines"),
]


async def test_q35_boots_and_is_cloned(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(home.path))
    places.prepare()
    image = image_files("minimal")
    facts = replace(await host_facts(find_qemu()), accelerator=Accelerator.TCG)
    spec = MachineSpec(image="minimal", name="large", memory_mib=256, disk_mib=64)
    plan = work_out(spec, image, facts, board=Board.Q35)
    template = tmp_path / "template"
    template.mkdir()
    await make(plan, template)
    record = Record(id="m-00000035", spec=spec, digest=image.digest, created="2026-01-01T00:00:00Z")
    (template / "disk").rename(tmp_path / "disk")
    held = [memory.from_file(template / name, name) for name in ("memory", "state")]
    machine = Machine(record, plan, tmp_path, memory=held[0], state=held[1])
    try:
        await machine.start()
        job = await machine.channel.exec(["/bin/sh", "-c", "hostname; ls /sys/bus/pci/devices | wc -l"])
        said = (await job.stdout.read_all(1000)).split()
        assert said[0] == b"large"
        assert int(said[1]) >= 5, "it has a bus that the small board does not have"
        await asyncio.wait_for(machine.suspend(), 200)
        assert places.suspended(tmp_path).exists()
        again = Machine(record, plan, tmp_path, memory=None, state=None)
        await again.start()
        job = await again.channel.exec(["/bin/hostname"])
        assert await job.stdout.read_all(1000) == b"large\n"
        await again.stop(force=True)
    finally:
        for descriptor in held:
            os.close(descriptor)
