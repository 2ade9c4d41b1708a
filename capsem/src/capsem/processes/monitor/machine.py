"""What is done with a machine that runs: suspended, copied while it stands still for a moment, stopped.

Refuses to lose what it has: what cannot be kept or copied leaves a machine that runs on, or one that has crashed and
says why. How it is brought up is in `running`.

    machine = Machine(record, plan, directory, memory=3, state=4)
    await machine.start()
    await machine.suspend()
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from capsem.errors import CapsemError, ConflictError, MachineError
from capsem.host import kept, shortage
from capsem.host import memory as memories
from capsem.host.disk import copy_disk
from capsem.host.jobs import GuestError
from capsem.host.whole import settle, settle_file
from capsem.processes.monitor.running import Running
from capsem.vm.lifecycle import Act, Event, State
from capsem.wire.guest import Shutdown, Sync
from capsem.wire.monitor import Copied

# From the first question to the last byte on the disk; memory of some GiB on a slow disk is within it.
SUSPEND_SECONDS = 120.0
# What is on its way to the disk may be much; standing still is not.
SYNC_SECONDS, STILL_SECONDS = 30.0, 15.0
# Whatever went wrong, the machine runs on within this, or QEMU does not answer and is ended.
RUN_ON_SECONDS = 10.0
STOP_SECONDS = 10.0


class Machine(Running):
    """One machine."""

    async def suspend(self) -> None:
        """Keep its memory and devices on the disk, and end it; returns when that is done.

        Raises:
            ConflictError: it does not run.
            MachineError: its state could not be kept; then it runs on.
        """
        async with self._one_copy:
            await self._suspended()

    async def _suspended(self) -> None:
        self._life.step(Event.SUSPEND)
        fresh, needed = self._kept.with_name(f"{self._kept.name}.new"), None
        try:
            async with asyncio.timeout(SUSPEND_SECONDS):
                # If what was in memory is forgotten one day, the disk has all that was written.
                await self._synced()
                async with self._room(ends=True) as room:
                    await self._stand_still()
                    state = await self._taken(room)
                    needed = os.fstat(room).st_blocks * 512 + len(state)
                    await asyncio.to_thread(kept.keep, fresh, state, room)
                if self._plan.disk:
                    await asyncio.to_thread(settle_file, self._directory / "disk")
            if self._life.state is not State.SUSPENDING:
                raise MachineError("it was stopped meanwhile", next_step="capsem start")
            fresh.replace(self._kept)
            settle(self._directory)
        except (CapsemError, GuestError, TimeoutError, OSError) as error:
            fresh.unlink(missing_ok=True)
            why, step = self._failed(error, needed)
            await self._run_on(why)
            runs = "it runs on" if self._life.state is State.RUNNING else f"it is {self._life.state}"
            raise MachineError(
                f"the machine is not suspended, {runs}: {why}", next_step=f"{step}, and repeat"
            ) from error
        self._life.step(Event.STATE_KEPT)
        assert self._qemu is not None
        self._qemu.kill()
        await self.ended.wait()

    def _failed(self, error: Exception, needed: int | None = None) -> tuple[str, str]:
        """Why a copy of what it has was not made, and what to do."""
        otherwise = f"see capsem logs {self.record.id}"
        if isinstance(error, TimeoutError):
            return f"QEMU was not done within {SUSPEND_SECONDS:g} s", otherwise
        if isinstance(error, OSError):
            return shortage.why(error, self._directory, needed=needed), shortage.step(
                error, otherwise=otherwise
            )
        return str(error), otherwise

    async def _synced(self) -> None:
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                await self._agent.lifecycle(Sync)
        except TimeoutError:
            raise MachineError(
                f"its agent did not write its disk within {SYNC_SECONDS:g} s", next_step="see capsem logs"
            ) from None

    async def _stand_still(self) -> None:
        assert self._qemu is not None
        if self._ready is None or "freeze" not in self._ready.capabilities:
            raise MachineError(
                "its agent cannot make programs stand still",
                next_step="capsem image build, then create it again",
            )
        try:
            async with asyncio.timeout(STILL_SECONDS):
                await self._agent.freeze()
                await self._qemu.execute("stop")
        except TimeoutError:
            raise MachineError(
                f"it did not stand still within {STILL_SECONDS:g} s", next_step="see capsem logs"
            ) from None

    @contextlib.asynccontextmanager
    async def _room(self, *, ends: bool = False) -> AsyncIterator[int]:
        """For its memory: what needs no standing still is there already; its own file where it `ends` with that."""
        assert self._memory is not None
        if ends and self._memory.shared:
            yield self._memory.file
            return
        room = await self._memory.room()
        try:
            yield room
        finally:
            os.close(room)

    async def _taken(self, room: int) -> bytes:
        assert self._memory is not None
        assert self._qemu is not None
        return await self._memory.taken(self._qemu, room)

    async def _run_on(self, why: str) -> None:
        """After a suspend that failed; a QEMU that does not answer is ended, and the machine has crashed."""
        if self._life.state is State.SUSPENDING and await self._thawed(why):
            self._life.step(Event.SUSPEND_FAILED)
            await self.evidence.write("machine.suspend_failed", {"reason": why})

    async def _thawed(self, why: str) -> bool:
        """Let it run on; a QEMU that does not answer is ended, and False is returned once it has gone."""
        try:
            async with asyncio.timeout(RUN_ON_SECONDS):
                if self._qemu is not None:
                    await self._qemu.execute("cont")
                    if self._agent.frozen:
                        await self._agent.thaw(time.time_ns())
        except (CapsemError, GuestError, TimeoutError) as error:
            self._why = f"{why}, and it did not run on: {str(error) or 'QEMU does not answer'}"
            if self._qemu is not None:
                self._qemu.kill()
            await self.ended.wait()
            return False
        return True

    @contextlib.asynccontextmanager
    async def copy(self, name: str, *, memory: bool) -> AsyncIterator[Copied]:
        """Copy its disk as it is now to `copies/NAME`, and where `memory` its memory and devices; it runs on.

        Memory and devices are descriptors of this process, named in the answer. They and what nobody took of the disk
        are there until the context is left.

        Raises:
            MachineError: it does not run, or the copy could not be made; nothing of it is left.
        """
        _ = self.channel
        place = self._directory / "copies" / name
        state = memories.blank("state")
        try:
            async with self._one_copy:
                await self.evidence.write("machine.copied", {"copy": name, "memory": memory})
                await asyncio.to_thread(place.mkdir, mode=0o700, parents=True)
                async with self._room() if memory else contextlib.nullcontext(-1) as room:
                    paused = await self._copied(place, state, room)
                    checkpoint = await self.evidence.checkpoint()
                    if not memory:
                        yield Copied(paused, checkpoint)
                        return
                    for descriptor in (room, state):
                        memories.seal(descriptor)
                    yield Copied(paused, checkpoint, os.getpid(), room, state)
        finally:
            os.close(state)
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def _copied(self, place: Path, state: int, room: int) -> int:
        """What has to be done while it stands still; returns how long it did, ms."""
        why, began = "it was copied", time.monotonic()
        try:
            async with asyncio.timeout(SUSPEND_SECONDS):
                # What it still has to write is written while it runs.
                await self._synced()
                began = time.monotonic()
                await self._stand_still()
                if room >= 0:
                    os.write(state, await self._taken(room))
                if self._plan.disk:
                    await asyncio.to_thread(copy_disk, self._directory / "disk", place / "disk")
        except (CapsemError, GuestError, TimeoutError, OSError) as error:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
            why, step = self._failed(error)
            raise MachineError(
                f"the machine is not copied: {why}", next_step=f"{step}, and repeat"
            ) from error
        finally:
            runs = await self._thawed(why)
            paused = time.monotonic() - began
        if not runs:
            raise MachineError(f"the machine has crashed: {self._why}", next_step="see capsem list")
        return int(paused * 1000)

    async def stop(self, *, force: bool, why: str | None = None) -> None:
        """End it, for the reason `why`: the agent is asked first, unless `force`; returns when it has ended."""
        act = self._life.step(Event.STOP)
        self._why = self._why or why
        if act is Act.SHUT_DOWN and not force:
            with contextlib.suppress(CapsemError, TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    if self.record.spec.live:
                        # What is mapped and changed is on its way to the host as long as the share is there.
                        await self._agent.lifecycle(Sync)
                    await self._agent.lifecycle(Shutdown)
                    assert self._qemu is not None
                    await self._qemu.wait()
        if not self.ended.is_set():
            self._life.step(Event.STOP_LATE)
            if self._qemu is not None:
                self._qemu.kill()
        await self.ended.wait()

    async def end_after(self, seconds: float | None) -> None:
        """Have it end so many seconds from now, in order; None: when it is ended. What was said before counts no more.

        Raises:
            ConflictError: its time is over already.
            MachineError: it does not run, or that cannot be recorded.
        """
        async with self._one_deadline:
            _ = self.channel
            if self._time_over:
                raise ConflictError(
                    f"the time of {self.record.id} is over: it is being ended",
                    next_step="start it again once it has ended: capsem start",
                )
            if self._deadline is None and seconds is None:
                return
            await self._write("machine.deadline", _of_deadline(seconds, moved=self._deadline is not None))
            # It may have ended meanwhile.
            _ = self.channel
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self._ends_at = None
            if seconds is not None:
                self._ends_at = time.monotonic() + seconds
                self._deadline = asyncio.create_task(self._end_in(seconds))

    async def _comes(self, seconds: float) -> bool:
        """Its time is over, which is on the log; False: it is being ended already."""
        async with self._one_deadline:
            if self._life.state not in {State.RUNNING, State.SUSPENDING}:
                return False
            self._time_over = True
            # A machine that cannot be recorded is not let run on for that.
            with contextlib.suppress(MachineError):
                await self._write("machine.deadline_came", {"after_ms": round(seconds * 1000)})
            return True

    async def _end_in(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not await self._comes(seconds):
            return
        # What is kept of it, or copied, is whole first; a client that holds a copy does not hold it beyond that.
        held = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SUSPEND_SECONDS):
                held = await self._one_copy.acquire()
        try:
            # Who ends it already does so in order, and is not hurried.
            if self._life.state in {State.RUNNING, State.SUSPENDING}:
                with contextlib.suppress(ConflictError):
                    await self.stop(force=False, why=f"its time of {seconds:g} s was over")
        finally:
            if held:
                self._one_copy.release()

    def fields(self) -> dict[str, Any]:
        """What identifies it in an entry."""
        return {"machine": self.record.id}


def _of_deadline(seconds: float | None, *, moved: bool) -> dict[str, Any]:
    """What is recorded of one that is set, moved, or lifted."""
    if seconds is None:
        return {"reason": "lifted"}
    return {"reason": "moved" if moved else "set", "after_ms": round(seconds * 1000)}
