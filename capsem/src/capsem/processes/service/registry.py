"""The machines of this user: made, found by name or id, started, stopped, deleted; what a crash left is put in order.

Refuses two machines of one name, and to delete one that runs unless it is told to.

    registry = Registry()
    await registry.adopt()
    record = await registry.create(MachineSpec(image="default"))
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from capsem.errors import CapsemError, ConflictError, MachineError, UsageError
from capsem.host import hold, places
from capsem.host.disk import copy_disk
from capsem.host.facts import host_facts, without_accelerator
from capsem.host.plans import read_plan, write_plan
from capsem.host.programs import find_qemu
from capsem.host.remembered import remove_with_logs
from capsem.host.settings import load
from capsem.processes.service import monitors
from capsem.processes.service.admission import fits, image_files, looked_up, not_live, with_disk_of
from capsem.processes.service.kept import ended, starting
from capsem.processes.service.known import Known
from capsem.processes.service.nursery import Nursery
from capsem.processes.service.pool import Ahead, Pool, size
from capsem.processes.service.room import Room, of_new
from capsem.processes.service.templates import Templates
from capsem.processes.service.watching import Watching
from capsem.vm.lifecycle import ALIVE, State
from capsem.vm.plan import Accelerator, Board, HostFacts, ImageFiles, MachinePlan, work_out
from capsem.vm.quantities import machine_name
from capsem.vm.record import End, Origin, Record, decode, next_step
from capsem.vm.spec import MachineSpec
from capsem.wire.monitor import Status
from capsem.wire.nursery import Begin

_OVER = {State.STOPPED, State.CRASHED}


class Registry(Known):
    """All machines of one home."""

    def __init__(self) -> None:
        super().__init__()
        self._facts: HostFacts | None = None
        self.templates = Templates(self._boot_template)
        self.nursery = Nursery()
        self.room = Room()
        self.pool = Pool(size(), self._ahead)
        self.watching = Watching(self._ended)
        self._naming = asyncio.Lock()
        # Machines whose monitor was asked for and has not said how it went.
        self._beginning: set[str] = set()
        # One act at a time on one machine.
        self._turns: dict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)

    # What is known.

    async def facts(self) -> HostFacts:
        """What this host executes machines with; found out once."""
        if self._facts is None:
            self._facts = await host_facts(find_qemu(), kept=places.run() / "host.json")
        return self._facts

    async def seen(self, record: Record) -> tuple[Record, Status | None]:
        """A machine as its monitor says it is now; while one begins, as it was when that was asked for."""
        status = await monitors.status_of(record.id)
        if status is None and (record.id in self._beginning or monitors.at_work(record.id)):
            return self._records.get(record.id, record), None
        if status is not None and State(status.state) not in ALIVE:
            # It has ended and puts its log in order; what it leaves is its last word.
            with contextlib.suppress(TimeoutError):
                await monitors.gone(record.id)
                status = None
        end = End(State(status.state)) if status is not None else ended(record)
        if (end.state, end.problem) != (record.state, record.problem) and record.id in self._records:
            record = self.noted(msgspec.structs.replace(record, state=end.state, problem=end.problem))
        return record, status

    async def list(self) -> list[tuple[Record, Status | None]]:
        """All, oldest first; a temporary one that has ended is gone."""
        found = []
        for record in sorted(self._records.values(), key=lambda one: one.created):
            there = await self._still(record)
            if there is not None:
                found.append(there)
        return found

    async def _still(self, record: Record) -> tuple[Record, Status | None] | None:
        """A machine as it is now; a temporary one that has ended is removed, and None is returned."""
        record, status = await self.seen(record)
        over = status is None and not record.spec.persistent and record.state in _OVER
        if over and not self._turns[record.id].locked():
            await self._remove(record)
            return None
        return record, status

    async def _ended(self, machine: str) -> None:
        """A monitor has gone; whoever acts on its machine knows that already."""
        record = self._records.get(machine)
        if record is None:
            return
        if record.spec.persistent:
            async with self._turns[machine]:
                self._tidied(machine)
        elif not self._turns[machine].locked():
            await self._still(record)

    def _tidied(self, machine: str) -> None:
        """What a monitor that was killed left half-made of its machine goes: it may be as large as its memory."""
        directory = places.session(machine)
        if machine in self._records and hold.holder(directory) is None:
            (directory / "suspended.new").unlink(missing_ok=True)
            shutil.rmtree(directory / "copies", ignore_errors=True)

    # What is done.

    async def create(self, spec: MachineSpec, *, leased: bool = False) -> Record:
        """Make a machine and start it; returns when its agent has answered.

        Args:
            spec: what is asked for.
            leased: whether it ends with the client that holds its lease.

        Raises:
            CapsemError: it makes no sense, the name is taken, there is no image or no QEMU, or it does not boot.
        """
        spec.checked()
        if leased and spec.persistent:
            raise UsageError(
                "a machine with a name outlives its client", next_step="leave out name or leased"
            )
        settings, image = await looked_up(spec)
        spec = with_disk_of(spec, image, usual=settings.mebibytes("machine.disk"))
        fits(spec, settings)
        plan = work_out(spec, image, await self.facts())
        async with self.room.taken(f"the machine {spec.name}" if spec.name else "the machine", of_new(plan)):
            return await self._created(spec, image, plan, leased=leased)

    async def _created(
        self, spec: MachineSpec, image: ImageFiles, plan: MachinePlan, *, leased: bool
    ) -> Record:
        if (ahead := self.pool.take(plan.key)) is not None:
            with contextlib.suppress(MachineError):
                return await self._becoming(spec, plan, ahead, leased=leased)
        record = await self.added(spec, image.digest)
        try:
            return await self._start(record, image, leased=leased)
        except BaseException:
            await self._remove(record)
            raise
        finally:
            self.pool.want(plan)

    async def _becoming(self, spec: MachineSpec, plan: MachinePlan, ahead: Ahead, *, leased: bool) -> Record:
        """The machine that was made ahead, once it is this one.

        Raises:
            ConflictError: its name is taken.
            MachineError: it has ended; another one has to be made.
        """
        try:
            record = await self.added(spec, ahead.plan.image.digest, made=ahead)
            try:
                with self._begun(record):
                    await monitors.become(record.id, leased=leased)
                self.watching.begin(record.id)
                return self.put(msgspec.structs.replace(record, state=State.RUNNING))
            except BaseException:
                await self._remove(record)
                raise
        finally:
            ahead.end()
            self.pool.want(plan)

    async def _ahead(self, plan: MachinePlan) -> Ahead:
        """A machine that is nobody's."""
        async with self.room.taken("a machine made ahead", of_new(plan)):
            return await self._made_ahead(plan)

    async def _made_ahead(self, plan: MachinePlan) -> Ahead:
        identity = _identity()
        directory = places.session(identity)
        real, template = await self.templates.get_on_some_board(plan)
        directory.mkdir(mode=0o700)
        try:
            if template.disk is not None:
                await asyncio.to_thread(copy_disk, template.disk, directory / "disk")
            write_plan(directory, real)
            lease = await self.nursery.ahead(
                Begin(session=str(directory), clone=True, ahead=True), directory / "monitor.log",
                (template.memory, template.state),
            )  # fmt: skip
        except BaseException:
            await asyncio.to_thread(remove_with_logs, directory)
            raise
        return Ahead(identity, real, lease)

    async def added(
        self, spec: MachineSpec, digest: str, origin: Origin | None = None, made: Ahead | None = None
    ) -> Record:
        """A machine that is not started yet, with a directory of its own; or one that was made ahead, and starts.

        Raises:
            ConflictError: its name is taken.
        """
        async with self._naming:
            if spec.name is not None:
                self.not_taken(spec.name)
            most = load().of("limits.machines")
            if len(self._records) >= int(most.value):
                await self.list()  # a temporary one that has ended may still be on its way out
            if len(self._records) >= int(most.value):
                raise ConflictError(
                    f"there are {len(self._records)} machines, and limits.machines is {most.value} ({most.place})",
                    next_step="capsem delete one, or capsem purge",
                )
            record = Record(
                id=_identity() if made is None else made.id, spec=spec, digest=digest, origin=origin,
                created=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            )  # fmt: skip
            if made is not None:
                record = starting(record, made.plan, template=True)
            places.session(record.id).mkdir(mode=0o700, exist_ok=made is not None)
            try:
                return self.put(record)
            except OSError:
                await asyncio.to_thread(remove_with_logs, places.session(record.id))
                raise

    @contextlib.contextmanager
    def _begun(self, record: Record) -> Iterator[None]:
        self._beginning.add(record.id)
        try:
            yield
        finally:
            self._beginning.discard(record.id)

    def turn(self, record: Record) -> asyncio.Lock:
        """For one who acts on a machine: one at a time."""
        return self._turns[record.id]

    @staticmethod
    def plan_of(record: Record) -> MachinePlan:
        """The plan that a machine was started with last."""
        return read_plan(places.session(record.id))

    async def start(self, record: Record) -> Record:
        """Start a machine that stands, from its disk.

        Raises:
            ConflictError: it runs, or is suspended.
        """
        async with self._turns[record.id]:
            return await self._started(record)

    async def _started(self, record: Record, *, leased: bool = False) -> Record:
        record = await self._standing(record)
        if record.state is State.SUSPENDED:
            name = record.names[0]
            raise ConflictError(
                f"{name} is suspended",
                next_step=f"capsem resume {name}; or forget what was in its memory: capsem stop --force {name}",
            )
        image = await asyncio.to_thread(image_files, record.digest)
        return await self._start(record, image, leased=leased and not record.spec.persistent)

    async def resume(self, record: Record, *, leased: bool = False) -> Record:
        """Go on with a machine from where it was suspended; `leased` as in `create`, of one that has no name.

        Raises:
            ConflictError: it is not suspended, or this host has another QEMU or accelerator than it was kept with.
        """
        async with self._turns[record.id]:
            record = await self._standing(record)
            if record.state is not State.SUSPENDED:
                raise ConflictError(
                    f"{record.names[0]} is {record.state}, not suspended", next_step=next_step(record) or ""
                )
            plan, facts = read_plan(places.session(record.id)), await self.facts()
            if (plan.qemu, plan.accelerator) != (facts.qemu, facts.accelerator):
                raise ConflictError(
                    f"it was kept with QEMU {plan.qemu} ({plan.accelerator}), this host has {facts.qemu} "
                    f"({facts.accelerator})",
                    next_step=f"capsem stop --force {record.names[0]} forgets its memory and keeps its disk",
                )
            await asyncio.to_thread(image_files, record.digest)
            leased = leased and not record.spec.persistent
            return await self.launched(record, plan, template=record.template, leased=leased)

    async def _standing(self, record: Record) -> Record:
        await monitors.settled(record.id, force=False)
        record, status = await self.seen(self.find(record.id))
        if status is not None:
            raise ConflictError(f"{record.names[0]} is {record.state}", next_step="see capsem info")
        self._tidied(record.id)
        return record

    async def suspend(self, record: Record) -> Record:
        """Keep a running machine's memory and devices, and end it; it can be resumed, also after the host was off.

        Raises:
            ConflictError: it does not run.
            MachineError: it could not be kept; it runs on.
        """
        not_live(record, "suspended")
        async with self._turns[record.id]:
            record, status = await self.seen(self.find(record.id))
            if status is None:
                raise ConflictError(
                    f"{record.names[0]} is {record.state}", next_step=next_step(record) or "see capsem list"
                )
            async with self.room.taken(f"what is kept of {record.names[0]}", record.spec.memory_mib << 20):
                await monitors.suspend(record.id)
            return (await self.seen(record))[0]

    async def restart(self, record: Record, *, force: bool = False, leased: bool = False) -> Record:
        """End a machine and start it from its disk; `leased` as in `create`, of one that has no name.

        Raises:
            ConflictError: it has no disk of its own, so a new start would find nothing; it is suspended.
        """
        if record.spec.disk_mib is None and not force:
            raise ConflictError(
                f"{record.names[0]} has no disk: a restart loses what was written in it",
                next_step="use --force",
            )
        async with self._turns[record.id]:
            await monitors.stop(record.id, force=force)
            return await self._started(record, leased=leased)

    async def persist(self, record: Record, name: str) -> Record:
        """Give a temporary machine a name, with which it outlives its stop.

        Raises:
            ConflictError: it has a name, or another machine has this one.
        """
        machine_name(name)
        async with self._turns[record.id], self._naming:
            record, _ = await self.seen(self.find(record.id))
            if record.spec.name is not None:
                raise ConflictError(
                    f"it is named {record.spec.name} already", next_step="it outlives its stop as it is"
                )
            self.not_taken(name)
            return self.put(msgspec.structs.replace(record, spec=replace(record.spec, name=name)))

    async def _start(self, record: Record, image: ImageFiles, *, leased: bool = False) -> Record:
        facts = await self.facts()
        board = Board.MICROVM if record.board is None else Board(record.board)
        plan = work_out(record.spec, image, facts, board=board)
        directory = places.session(record.id)
        disk = directory / "disk"
        template = None
        fresh = not disk.exists()
        if fresh:
            # What its disk holds is not known to a template's memory: only a new machine starts from one.
            try:
                plan, template = await self.templates.get_on_some_board(plan)
            except MachineError as error:
                if facts.accelerator is Accelerator.TCG:
                    raise
                # It passed its trial, and no machine boots under it: emulation does, if the image is whole.
                slower = replace(facts, accelerator=Accelerator.TCG)
                plan, template = await self.templates.get_on_some_board(work_out(record.spec, image, slower))
                self._facts = without_accelerator(
                    facts, find_qemu(), error.message, kept=places.run() / "host.json"
                )
            if template.disk is not None:
                await asyncio.to_thread(copy_disk, template.disk, disk)
        start_from = None if template is None else (template.memory, template.state)
        return await self.launched(record, plan, template=fresh, start_from=start_from, leased=leased)

    async def launched(
        self,
        record: Record,
        plan: MachinePlan,
        *,
        template: bool,
        start_from: tuple[int, int] | None = None,
        leased: bool = False,
    ) -> Record:
        """Start a machine's monitor; returns when its agent has answered.

        Args:
            record: the machine.
            plan: its devices.
            template: whether it began as a template.
            start_from: sealed descriptors of the memory and the state to go on from.
            leased: whether it ends with the client that holds its lease.

        Raises:
            CapsemError: why it did not.
        """
        directory = places.session(record.id)
        write_plan(directory, plan)
        asked = Begin(session=str(directory), clone=start_from is not None, leased=leased)
        descriptors = start_from or ()
        # The monitor of the time before may still be on its way out.
        await monitors.released(record.id)
        places.end(directory).unlink(missing_ok=True)
        try:
            with self._begun(record):
                record = self.put(starting(record, plan, template=template))
                await self.nursery.run(asked, directory / "monitor.log", descriptors)
        except CapsemError as error:
            # What was kept is still there unless the machine ran on from it.
            kept = places.suspended(directory).exists()
            state = State.SUSPENDED if kept else State.FAILED
            self.noted(msgspec.structs.replace(record, state=state, problem=error.message))
            raise
        self.watching.begin(record.id)
        return self.put(msgspec.structs.replace(record, state=State.RUNNING))

    async def stop(self, record: Record, *, force: bool = False) -> Record | None:
        """End a machine; a temporary one is deleted, and None is returned.

        Raises:
            ConflictError: it is suspended, and `force`, which forgets its memory, was not given.
        """
        async with self._turns[record.id]:
            await monitors.settled(record.id, force=force)
            record, status = await self.seen(self.find(record.id))
            if status is None and record.state is State.SUSPENDED and not force:
                name = record.names[0]
                raise ConflictError(
                    f"{name} is suspended: a stop forgets what was in its memory",
                    next_step=f"capsem resume {name}, or capsem stop --force {name}",
                )
            if status is not None:
                await monitors.stop(record.id, force=force)
            places.suspended(places.session(record.id)).unlink(missing_ok=True)
            if not record.spec.persistent:
                await self._remove(record)
                return None
            return self.noted(msgspec.structs.replace(record, state=State.STOPPED, problem=None))

    async def delete(self, record: Record, *, force: bool = False) -> None:
        """Remove a machine and everything of it but its log.

        Raises:
            ConflictError: it runs, and `force` was not given.
        """
        async with self._turns[record.id]:
            await monitors.settled(record.id, force=force)
            await self._deleted(*await self.seen(self.find(record.id)), force=force)

    async def _deleted(self, record: Record, status: Status | None, *, force: bool) -> None:
        if status is not None:
            if not force and record.spec.persistent:
                raise ConflictError(
                    f"{record.names[0]} is {record.state}",
                    next_step=f"capsem stop {record.names[0]} first, or delete --force",
                )
            await monitors.stop(record.id, force=True)
        await self._remove(record)

    async def _remove(self, record: Record) -> None:
        self._records.pop(record.id, None)
        self._turns.pop(record.id, None)
        with contextlib.suppress(FileNotFoundError):
            places.monitor_socket(record.id).unlink()
        # Without it the rest is of no machine, however far we get.
        with contextlib.suppress(FileNotFoundError):
            (places.session(record.id) / "session.json").unlink()
        await asyncio.to_thread(remove_with_logs, places.session(record.id))

    async def adopt(self) -> None:
        """Read what an earlier service left: machines that run are taken over, what ended is put in order."""
        from capsem.host import paths

        for directory in sorted(paths.sessions().iterdir()):
            await self._taken_over(directory)
        for left in places.run().glob("m-*.sock"):
            if await monitors.status_of(left.stem) is None:
                left.unlink(missing_ok=True)
        await self.list()

    async def _taken_over(self, directory: Path) -> None:
        place, known = directory / "session.json", places.is_id(directory.name)
        alive = known and (
            hold.holder(directory) is not None or await monitors.status_of(directory.name) is not None
        )
        try:
            record = decode(place.read_bytes(), str(place))
        except FileNotFoundError:
            # One that was made ahead and is nobody's, or half of one.
            if known and not alive:
                remove_with_logs(directory)
            return
        except (CapsemError, OSError) as error:
            # The others are not to suffer from it, and it may be mended.
            sys.stderr.write(f"capsem-service: a machine is passed over: {error}\n")
            return
        if record.state is State.CREATED and not alive:
            # Its maker was ended before it was begun, and nobody was told of it.
            remove_with_logs(directory)
            return
        self._records[record.id] = record
        if alive:
            self.watching.begin(record.id)
        else:
            for part in ("session.json.new", "suspended.new", "suspended.used"):
                (directory / part).unlink(missing_ok=True)
            shutil.rmtree(directory / "copies", ignore_errors=True)

    async def _boot_template(self, plan: MachinePlan, directory: Path) -> None:
        write_plan(directory, plan)
        await self.nursery.run(Begin(template=str(directory)), directory / "monitor.log")


def _identity() -> str:
    return f"m-{secrets.token_hex(4)}"
