"""The plan of a machine on the disk: the service writes it, the machine's monitor reads it.

write_plan(places.session("m-1a2b3c4d"), plan)
plan = read_plan(places.session("m-1a2b3c4d"))
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from capsem.host.whole import write_whole
from capsem.vm.plan import MachinePlan


def _place(directory: Path) -> Path:
    return directory / "plan.json"


def read_plan(directory: Path) -> MachinePlan:
    """The plan a machine was begun with.

    Raises:
        OSError: it cannot be read.
        msgspec.MsgspecError: it is no plan.
    """
    return msgspec.json.decode(_place(directory).read_bytes(), type=MachinePlan)


def write_plan(directory: Path, plan: MachinePlan) -> None:
    """Write it, for its owner alone.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(_place(directory), msgspec.json.format(msgspec.json.encode(plan)) + b"\n", sync=False)
