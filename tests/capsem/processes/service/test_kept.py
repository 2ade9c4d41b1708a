from __future__ import annotations

import msgspec
import pytest

from capsem.host import places
from capsem.processes.service.kept import ended, shown, starting
from capsem.vm.lifecycle import State
from capsem.vm.plan import work_out
from capsem.vm.record import End
from capsem.vm.spec import MachineSpec
from tests.capsem.processes.service.test_registry import left
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.usefixtures("capsem_home")]


def test_what_is_shown_is_json() -> None:
    record = left("m-aaaa0001", "build", State.STOPPED)
    assert msgspec.json.decode(msgspec.json.encode(shown(record, None)))["name"] == "build"


def test_one_that_begins() -> None:
    plan = work_out(MachineSpec(), IMAGE, FACTS)
    begun = starting(left("m-aaaa0001", "build", State.STOPPED), plan, template=True)
    assert (begun.state, begun.accelerator, begun.template) == (State.STARTING, plan.accelerator.value, True)


@pytest.mark.parametrize(
    ("left_behind", "before", "told"),
    [
        ("", State.RUNNING, State.CRASHED),
        ("", State.STOPPED, State.STOPPED),
        ("suspended", State.RUNNING, State.SUSPENDED),
        ("end.json", State.RUNNING, State.STOPPED),
    ],
)
def test_how_one_ended_that_nobody_speaks_for(left_behind: str, before: State, told: State) -> None:
    record = left("m-aaaa0001", "build", before)
    directory = places.session(record.id)
    if left_behind == "suspended":
        places.suspended(directory).write_bytes(b"memory")
    elif left_behind:
        places.end(directory).write_bytes(msgspec.json.encode(End(State.STOPPED)))
    assert ended(record).state is told
