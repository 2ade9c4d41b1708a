"""What a machine's start puts on its log, and what becomes of the file that it went on from.

Refuses nothing: in which order both happen is the machine's to see to.

    await evidence.write("machine.started", entry(record, plan, template=True, resumed=False))
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from capsem.vm.plan import MachinePlan
from capsem.vm.record import Record


def entry(record: Record, plan: MachinePlan, *, template: bool, resumed: bool) -> dict[str, Any]:
    """The fields of `machine.started`.

    Args:
        record: what was asked for.
        plan: its devices.
        template: whether it begins as a template.
        resumed: whether it goes on from where it, or its parent, stood.
    """
    spec = record.spec
    return {
        "image": plan.image.digest, "name": spec.name, "memory_mib": spec.memory_mib, "cpus": spec.cpus,
        "disk_mib": spec.disk_mib, "accelerator": plan.accelerator.value, "board": plan.board.value,
        "qemu": plan.qemu, "template": template, "resumed": resumed, "rules": [rule.file for rule in spec.rules],
    }  # fmt: skip


def used_up(place: Path) -> int | None:
    """Take the name from what a machine went on from, if it did.

    Returns:
        A descriptor; its place on the disk is given back when that is closed, which takes tens of milliseconds.
    """
    used = None
    with contextlib.suppress(OSError):
        used = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    place.unlink(missing_ok=True)
    return used
