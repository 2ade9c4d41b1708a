from __future__ import annotations

import pytest

from capsem.errors import UsageError
from capsem.vm.spec import MachineSpec


def test_a_machine_with_a_name_outlives_its_stop() -> None:
    assert MachineSpec(name="x").checked().persistent
    assert not MachineSpec().checked().persistent


@pytest.mark.parametrize(
    "spec",
    [
        MachineSpec(cpus=0),
        MachineSpec(cpus=99),
        MachineSpec(memory_mib=8),
        MachineSpec(disk_mib=1),
        MachineSpec(name="A b"),
        MachineSpec(env={"A=B": "x"}),
        MachineSpec(env={"A": "x\0y"}),
        MachineSpec(share="live"),
    ],
)
def test_a_machine_that_could_not_be_is_refused(spec: MachineSpec) -> None:
    with pytest.raises(UsageError):
        spec.checked()
