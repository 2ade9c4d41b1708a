"""A client's side of a machine that is there for it alone: it ends when this process does, however that is.

Refuses a machine that was not made for one client.

    lease = Lease()
    await lease.take(machine)                # as the service tells of it
    await lease.let_stay()                   # the machine outlives us after all
    await lease.close()                      # else: it ends
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from capsem.errors import MachineError
from capsem.host.operation import Operation, begin
from capsem.wire.monitor import Done
from capsem.wire.monitor import Lease as Asked


class Lease:
    """The lease of one machine; of none until it is taken."""

    def __init__(self) -> None:
        self._operation: Operation | None = None

    async def take(self, machine: dict[str, Any]) -> None:
        """Have it.

        Raises:
            CapsemError: it was not made for one client, or has ended.
        """
        operation = await begin(Path(machine["socket"]), Asked())
        try:
            async for said in operation:
                if isinstance(said, Done):
                    self._operation = operation
                    return
            raise MachineError("the monitor said nothing of the lease", next_step="see capsem list")
        finally:
            if self._operation is None:
                await operation.close()

    async def let_stay(self) -> None:
        """The machine outlives us; returns when its monitor knows.

        Raises:
            CapsemError: it has ended.
        """
        if self._operation is not None:
            await self._operation.keep()

    async def close(self) -> None:
        """Let go of it."""
        if self._operation is not None:
            await self._operation.close()
