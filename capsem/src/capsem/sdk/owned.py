"""The machines that are this program's alone: each ends when the program does, SIGKILL included, unless it is let stay.

What holds them is the program, not the object or the event loop that made them: an id may be passed on and connected to
as long as the program is there. Refuses to be shared by a fork: a child process holds none of its parent's machines.

    await hold(machine)                      # as the service tells of it
    await let_stay(machine["id"])            # it outlives the program
    release(machine["id"])                   # it has ended
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from capsem.host.lease import Lease

_HELD: dict[str, Lease] = {}


class Owned(Lease):
    """A lease that the program has from the moment in which it is taken."""

    async def take(self, machine: Mapping[str, Any]) -> None:
        """Have it; see `Lease.take`."""
        name = str(machine["id"])
        _HELD[name] = self
        try:
            await super().take(machine)
        except BaseException:
            _HELD.pop(name, None)
            raise


async def hold(machine: Mapping[str, Any]) -> None:
    """From now on it ends with this program.

    Raises:
        CapsemError: it was not made for one client, or has ended.
    """
    release(str(machine["id"]))
    await Owned().take(machine)


async def let_stay(machine: str) -> None:
    """It outlives this program; nothing happens with one that is not its own.

    Raises:
        CapsemError: it has ended.
    """
    if (lease := _HELD.get(machine)) is not None:
        await lease.let_stay()
        release(machine)


def release(machine: str) -> None:
    """Hold one that has ended no longer."""
    if (lease := _HELD.pop(machine, None)) is not None:
        lease.drop()


def _forked() -> None:
    for lease in _HELD.values():
        lease.drop()
    _HELD.clear()


os.register_at_fork(after_in_child=_forked)
