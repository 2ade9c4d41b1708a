"""Machines made ahead, of the plan that was asked for last: the next one only has to become somebody's.

Refuses to keep more than it was told: none, unless the setting `service.pool` or `CAPSEM_POOL` says a number. They
end with the service.

    pool = Pool(size(), make)
    ahead = pool.take(plan.key)              # None: there is none of this plan
    pool.want(plan)                          # from now on of this one
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from capsem.errors import CapsemError, UsageError
from capsem.host.settings import load
from capsem.vm.plan import MachinePlan
from capsem.vm.settings import MOST_AHEAD

VARIABLE = "CAPSEM_POOL"
REST_SECONDS = 0.25
"""Who was just given a machine runs a first command in it; another one is made ahead after that."""


def size() -> int:
    """How many are kept: `CAPSEM_POOL`, else the setting `service.pool`.

    Where the organisation's file has that setting, it holds whatever the variable says.

    Raises:
        UsageError: it says no number up to 64.
    """
    text = os.environ.get(VARIABLE)
    held = load().of("service.pool")
    if not text or held.locked:
        return int(held.value)
    if not text.isdecimal() or int(text) > MOST_AHEAD:
        raise UsageError(
            f"{VARIABLE} is {text!r}, no number of machines", next_step=f"set it to 0 up to {MOST_AHEAD}"
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class Ahead:
    """A machine that is nobody's.

    Attributes:
        id: which it has, and its directory.
        plan: its devices.
        lease: a descriptor; once nobody has it, the machine ends.
    """

    id: str
    plan: MachinePlan
    lease: int

    @property
    def there(self) -> bool:
        """Whether its monitor has not ended."""
        ended = select.poll()
        ended.register(self.lease, select.POLLIN)
        return not ended.poll(0)

    def end(self) -> None:
        """Let go of it."""
        os.close(self.lease)


class Pool:
    """All that are ready."""

    def __init__(self, number: int, make: Callable[[MachinePlan], Awaitable[Ahead]]) -> None:
        self._number = number
        self._make = make
        self._plan: MachinePlan | None = None
        self._ready: list[Ahead] = []
        self._filling: asyncio.Task[None] | None = None

    def take(self, key: str) -> Ahead | None:
        """One that was made for a plan of this key, oldest first."""
        if self._plan is None or self._plan.key != key:
            return None
        while self._ready:
            found = self._ready.pop(0)
            if found.there:
                return found
            found.end()
        return None

    def want(self, plan: MachinePlan) -> None:
        """Keep machines of this plan from now on, and none of another."""
        if not self._number:
            return
        if self._plan is None or self._plan.key != plan.key:
            self._end_all()
        self._plan = plan
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        await asyncio.sleep(REST_SECONDS)
        while self._plan is not None and len(self._ready) < self._number:
            plan = self._plan
            try:
                made = await self._make(plan)
            except CapsemError as error:
                # Who asks for a machine is told why it does not start; here nobody asked.
                sys.stderr.write(f"capsem-service: no machine was made ahead: {error}\n")
                return
            if self._plan is None or self._plan.key != plan.key:
                made.end()
            else:
                self._ready.append(made)

    def _end_all(self) -> None:
        for one in self._ready:
            one.end()
        self._ready.clear()

    async def close(self) -> None:
        """End all."""
        self._plan = None
        if self._filling is not None:
            self._filling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._filling
        self._end_all()
