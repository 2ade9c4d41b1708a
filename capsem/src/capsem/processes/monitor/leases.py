"""A machine that is there for one client, and ends with it: the connection is the lease, and the kernel ends that.

Refuses a lease of a machine that was not begun for one, so that nothing else can end with whoever asked about it. A
machine that was given a name meanwhile is somebody's, and stays.

    leases = Leases(machine, leased=True)     # ends it unless a client comes within GRACE_SECONDS
    await leases.hold(link)                   # returns when the machine has ended, or stays
"""

from __future__ import annotations

import asyncio
import contextlib

from capsem.errors import CapsemError, ConflictError
from capsem.host import places
from capsem.host.link import Link
from capsem.processes.monitor.machine import Machine
from capsem.vm.record import decode
from capsem.wire.frame import FrameError, Message
from capsem.wire.monitor import Done, Keep, Over, Result, decode_client, encode

# From the word that it runs until its client has come. A client that lives takes milliseconds.
GRACE_SECONDS = 30.0
_GONE = "the client that it was made for has gone"


class Leases:
    """The leases of one machine.

    Args:
        machine: what ends.
        leased: whether it is to end when nobody has it.
    """

    def __init__(self, machine: Machine, *, leased: bool = False) -> None:
        self._machine = machine
        self._leased = False
        self._holders = 0
        self._waiting: asyncio.Task[None] | None = None
        if leased:
            self.wait_for_one()

    def wait_for_one(self) -> None:
        """From now on it ends when nobody has it; the first one has its time to come."""
        self._leased = True
        self._waiting = asyncio.create_task(self._nobody_came())

    async def hold(self, link: Link) -> None:
        """Let a client have it, until the client hangs up or the machine has ended.

        Raises:
            ConflictError: it was not made for one client.
        """
        if not self._leased:
            raise ConflictError(
                f"{self._machine.record.id} was not made for one client",
                next_step="it ends when it is stopped",
            )
        self.close()
        self._holders += 1
        try:
            await link.send(encode(Done()))
            hung_up = asyncio.create_task(self._hung_up(link))
            ended = asyncio.create_task(self._machine.ended.wait())
            await asyncio.wait({hung_up, ended}, return_when=asyncio.FIRST_COMPLETED)
            for task in (hung_up, ended):
                task.cancel()
        finally:
            self._holders -= 1
        await link.close()
        if not self._holders:
            await self._over()

    async def _hung_up(self, link: Link) -> None:
        """Returns when the client has gone; before, it may say that the machine stays, or that it is done with it."""
        try:
            while (frame := await link.receive()) is not None:
                match decode_client(frame) if isinstance(frame, Message) else None:
                    case Keep():
                        self._leased = False
                        await link.send(encode(Done()))
                    case Over():
                        await self._done_with(link)
                    case _:
                        return
        except (FrameError, CapsemError):
            return

    async def _done_with(self, link: Link) -> None:
        """End it; the connection ends with it. One that was given a name stays."""
        if (name := self._name()) is not None:
            await link.send(encode(Result({"name": name})))
        else:
            # Somebody may be ending it already.
            with contextlib.suppress(ConflictError):
                await self._machine.stop(force=True)
            await self._machine.ended.wait()

    async def _nobody_came(self) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        await self._over()

    async def _over(self) -> None:
        if not self._leased or self._machine.ended.is_set() or self._name() is not None:
            return
        # Somebody may be ending it already.
        with contextlib.suppress(ConflictError):
            await self._machine.stop(force=True, why=_GONE)

    def _name(self) -> str | None:
        """Which it was given, if any: only the service knows, and writes it down."""
        place = places.session(self._machine.record.id) / "session.json"
        try:
            return decode(place.read_bytes(), str(place)).spec.name
        except (OSError, CapsemError):
            return None

    def close(self) -> None:
        """Wait for nobody any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
