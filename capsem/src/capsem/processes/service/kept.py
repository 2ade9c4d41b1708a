"""What the service keeps of a machine: its record when it begins, how it ended, what clients see of it."""

from __future__ import annotations

from typing import Any

import msgspec

from capsem.host import places
from capsem.vm.lifecycle import ALIVE, State
from capsem.vm.plan import MachinePlan
from capsem.vm.record import End, Record, next_step
from capsem.wire.monitor import Status


def starting(record: Record, plan: MachinePlan, *, template: bool) -> Record:
    """A record from the moment in which a monitor is begun for it."""
    return msgspec.structs.replace(
        record, state=State.STARTING, accelerator=plan.accelerator.value, board=plan.board.value, template=template,
        problem=None,
    )  # fmt: skip


def ended(record: Record) -> End:
    """What a machine is that no monitor speaks for, by what is on its disk."""
    directory = places.session(record.id)
    if places.suspended(directory).exists():
        return End(State.SUSPENDED, record.problem if record.state is State.SUSPENDED else None)
    if record.state not in ALIVE and record.state is not State.SUSPENDED:
        return End(record.state, record.problem)
    try:
        return msgspec.json.decode(places.end(directory).read_bytes(), type=End)
    except (OSError, msgspec.MsgspecError):
        return End(State.CRASHED, "its monitor was ended from outside, and QEMU with it")


def shown(record: Record, status: Status | None) -> dict[str, Any]:
    """A machine as clients see it."""
    return {
        "id": record.id,
        "name": record.spec.name,
        "image": record.spec.image,
        "digest": record.digest,
        "state": record.state.value,
        "created": record.created,
        "cpus": record.spec.cpus,
        "memory_mib": record.spec.memory_mib,
        "disk_mib": record.spec.disk_mib,
        "workspace": record.spec.workspace,
        "rules": [rule.file for rule in record.spec.rules],
        # Of commands and files that no rule says anything of.
        "unruled": "refused" if record.spec.rules else "allowed",
        "share": record.spec.share if record.spec.workspace is not None else None,
        "accelerator": record.accelerator,
        "board": record.board,
        "template": record.template,
        "problem": record.problem if status is None else status.problem,
        "next_step": next_step(record) if status is None else _next_step(record, status),
        "origin": None if record.origin is None else record.origin.machine,
        "log": str(places.log(record.id)),
        "directory": str(places.session(record.id)),
        "socket": str(places.monitor_socket(record.id)),
        "status": None if status is None else msgspec.to_builtins(status),
    }


def _next_step(record: Record, status: Status) -> str | None:
    """What to do about one that runs; nothing, where nothing is wrong with it."""
    name = record.names[0]
    return status.problem and f"wait, or: capsem stop --force {name}, capsem start {name}; its disk is kept"
