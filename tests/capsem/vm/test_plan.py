from __future__ import annotations

import json
from dataclasses import replace

import msgspec

from capsem.vm.plan import (
    FIRST_PORTS,
    SHARE,
    Accelerator,
    Board,
    HostFacts,
    ImageFiles,
    MachinePlan,
    work_out,
)
from capsem.vm.spec import MachineSpec

IMAGE = ImageFiles("d" * 64, "/i/vmlinuz", "/i/initrd", "/i/root.squashfs", "squashfs")
FACTS = HostFacts(Accelerator.TCG, "no /dev/kvm", "7.2.22", 2_600_000)


def test_machines_that_can_share_a_template_have_one_key() -> None:
    plan = work_out(MachineSpec(name="a", env={"X": "1"}), IMAGE, FACTS)
    again = work_out(
        MachineSpec(), replace(IMAGE, kernel="/moved/vmlinuz"), replace(FACTS, tsc_khz=2_599_000)
    )
    assert plan.key == again.key
    for other in (
        work_out(MachineSpec(memory_mib=256), IMAGE, FACTS),
        work_out(MachineSpec(cpus=2), IMAGE, FACTS),
        work_out(MachineSpec(disk_mib=1024), IMAGE, FACTS),
        work_out(MachineSpec(), replace(IMAGE, digest="e" * 64), FACTS),
        work_out(MachineSpec(), IMAGE, replace(FACTS, qemu="8.0.0")),
        work_out(MachineSpec(), IMAGE, replace(FACTS, accelerator=Accelerator.KVM)),
        work_out(MachineSpec(), IMAGE, FACTS, board=Board.Q35),
    ):
        assert other.key != plan.key


def test_a_machine_kept_before_live_shares_keeps_its_ports() -> None:
    plan = work_out(MachineSpec(), IMAGE, FACTS)
    assert SHARE in plan.ports
    told = json.loads(msgspec.json.encode(plan))
    del told["ports"]
    before = msgspec.convert(told, MachinePlan)
    assert before.ports == FIRST_PORTS
    assert before.key != plan.key


def test_a_machine_kept_with_the_interval_timer_keeps_it() -> None:
    plan = work_out(MachineSpec(), IMAGE, FACTS)
    assert not plan.interval_timer
    assert work_out(MachineSpec(), IMAGE, replace(FACTS, accelerator=Accelerator.KVM)).interval_timer
    told = json.loads(msgspec.json.encode(plan))
    del told["interval_timer"]
    before = msgspec.convert(told, MachinePlan)
    assert before.interval_timer
    assert before.key != plan.key


def test_an_emulated_processor_does_not_ask_for_copies_by_the_byte() -> None:
    plan = work_out(MachineSpec(), IMAGE, FACTS)
    assert plan.processor == "max,-erms,-fsrm"
    assert replace(plan, accelerator=Accelerator.KVM).processor == "max"


def test_the_kernel_is_told_where_its_root_is_and_how_fast_its_clock_runs() -> None:
    line = work_out(MachineSpec(), IMAGE, FACTS).kernel_line.split()
    assert {
        "capsem.root=/dev/vda",
        "capsem.fs=squashfs",
        "tsc_early_khz=2600000",
        "mitigations=off",
        "tsc=reliable",
    } <= set(line)
    assert "capsem.disk=/dev/vdb" in work_out(MachineSpec(disk_mib=64), IMAGE, FACTS).kernel_line
    native = work_out(MachineSpec(), IMAGE, replace(FACTS, accelerator=Accelerator.KVM)).kernel_line
    assert "mitigations" not in native, "only emulation has nothing to mitigate"
    assert "tsc=reliable" not in native, "where the processor runs it, the kernel finds out itself"
