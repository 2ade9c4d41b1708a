from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from capsem.errors import MachineError
from capsem.vm.commandline import SANDBOX, Descriptors, boot, restore
from capsem.vm.plan import PORTS, Accelerator, Board, work_out
from capsem.vm.spec import MachineSpec
from tests.capsem.vm.test_plan import FACTS, IMAGE

DESCRIPTORS = Descriptors(
    qmp=10, console=11, memory=12, root=13, ports={port: 20 + port - 5000 for port in PORTS}
)
PLAN = work_out(MachineSpec(memory_mib=256), IMAGE, FACTS)


def options(line: list[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(line) if option == name]


def devices(line: list[str]) -> list[list[str]]:
    return [options(line, name) for name in ("-M", "-device", "-chardev", "-drive", "-m", "-smp", "-cpu")]


@pytest.mark.parametrize("board", list(Board))
def test_a_clone_has_the_devices_of_its_template(board: Board) -> None:
    plan = replace(PLAN, board=board)
    template = boot(plan, DESCRIPTORS, program="q", shared=True)
    clone = restore(plan, DESCRIPTORS, program="q", shared=False)
    assert devices(template) == devices(clone)
    assert options(clone, "-incoming") == ["defer"]
    assert "-S" in clone, "it runs on when it is told to"
    assert "share=on" in options(restore(plan, DESCRIPTORS, program="q", shared=True), "-object")[0]
    assert not options(clone, "-kernel")
    assert "share=on" in options(template, "-object")[0]
    assert "share=off" in options(clone, "-object")[0], "what one clone writes no other sees"


def test_the_processor_is_the_plan_s() -> None:
    assert options(boot(PLAN, DESCRIPTORS, program="q", shared=False), "-cpu") == [PLAN.processor]
    assert options(restore(PLAN, DESCRIPTORS, program="q", shared=False), "-cpu") == [PLAN.processor]


def test_there_is_no_network_and_no_way_to_start_a_program() -> None:
    line = boot(PLAN, DESCRIPTORS, program="q", shared=False)
    assert options(line, "-sandbox") == [SANDBOX]
    assert {"-nodefaults", "-no-user-config"} <= set(line)
    assert not [word for word in line if "net" in word.lower() and "virtio-net" in word]
    assert not options(line, "-netdev") + options(line, "-nic") + options(line, "-monitor")


def test_every_port_has_its_name_and_its_descriptor() -> None:
    line = boot(PLAN, DESCRIPTORS, program="q", shared=False)
    for port in PORTS:
        assert f"socket,id=p{port},fd={20 + port - 5000}" in options(line, "-chardev")
        assert any(f"name=capsem.{port}," in device for device in options(line, "-device"))


def test_the_small_board_has_modern_devices_and_the_other_pci() -> None:
    assert options(boot(PLAN, DESCRIPTORS, program="q", shared=False), "-global") == [
        "virtio-mmio.force-legacy=false"
    ]
    pci = boot(replace(PLAN, board=Board.Q35), DESCRIPTORS, program="q", shared=False)
    assert not options(pci, "-global")
    assert all("pci" in device or "virtserialport" in device for device in options(pci, "-device"))


def test_an_emulated_small_board_has_no_interval_timer_and_its_kernel_does_not_look_for_one() -> None:
    line = boot(PLAN, DESCRIPTORS, program="q", shared=False)
    assert options(line, "-M") == ["microvm,pit=off,memory-backend=mem"]
    assert "no_timer_check" in options(line, "-append")[0].split()
    kept = replace(PLAN, interval_timer=True)
    for other in (kept, replace(PLAN, board=Board.Q35), replace(kept, accelerator=Accelerator.KVM)):
        line = boot(other, DESCRIPTORS, program="q", shared=False)
        assert options(line, "-M") == [f"{other.board},memory-backend=mem"]
        assert "no_timer_check" not in options(line, "-append")[0]


def test_only_a_boot_names_files() -> None:
    disk = replace(PLAN, disk=True, disk_mib=64)
    lines = {
        "boot": boot(disk, replace(DESCRIPTORS, disk=14), program="q", shared=False),
        "clone": restore(disk, replace(DESCRIPTORS, disk=14), program="q", shared=False),
    }
    for line in lines.values():
        assert options(line, "-add-fd") == ["fd=13,set=1", "fd=14,set=2"]
        assert "readonly=on" in options(line, "-drive")[0]
        assert "readonly" not in options(line, "-drive")[1]
    named = {kind: [word for word in line if word.startswith("/i/")] for kind, line in lines.items()}
    assert named == {"boot": ["/i/vmlinuz", "/i/initrd"], "clone": []}


def test_a_plan_and_what_it_is_given_must_agree() -> None:
    with pytest.raises(MachineError, match="disk"):
        boot(PLAN, replace(DESCRIPTORS, disk=14), program="q", shared=False)
    with pytest.raises(MachineError, match="ports"):
        boot(PLAN, replace(DESCRIPTORS, ports={5000: 3}), program="q", shared=False)


def test_the_accelerator_is_the_planned_one() -> None:
    assert options(boot(PLAN, DESCRIPTORS, program="q", shared=False), "-accel") == ["tcg,thread=multi"]
    native = replace(PLAN, accelerator=Accelerator.KVM)
    assert options(boot(native, DESCRIPTORS, program="q", shared=False), "-accel") == ["kvm"]
