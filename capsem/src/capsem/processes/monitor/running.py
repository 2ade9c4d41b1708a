"""A machine that is brought up, runs and ends: its QEMU, its agent, its record, and what state all of it is in.

Refuses to run anything before the agent has its identity and the start is on the log. `capsem.vm.lifecycle` decides
what follows from what happens; this module does it. What is done with one that runs is in `machine`.

    machine = Machine(record, plan, directory, memory=3, state=4)
    await machine.start()
    await machine.ended.wait()
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from capsem.errors import CapsemError, ConflictError, MachineError
from capsem.host import memory as memories
from capsem.host import places
from capsem.host.channel import Channel
from capsem.host.confinement import confined
from capsem.host.disk import open_disks
from capsem.host.jobs import GuestError
from capsem.host.programs import find_qemu
from capsem.host.qemu import Files, Qemu, launch
from capsem.host.whole import settle, write_whole
from capsem.processes.monitor import starting
from capsem.processes.monitor.attending import Commands
from capsem.processes.monitor.console import keep
from capsem.processes.monitor.deciding import Rules
from capsem.processes.monitor.evidence import Evidence
from capsem.processes.monitor.memory import Memory
from capsem.processes.monitor.network import Network
from capsem.processes.monitor.patience import Patience
from capsem.processes.monitor.reporting import take, watch
from capsem.processes.monitor.sharing import Sharing
from capsem.vm.commandline import boot, restore
from capsem.vm.lifecycle import Act, Event, Life, State
from capsem.vm.plan import SHARE, Accelerator, MachinePlan
from capsem.vm.record import End, Record, decode
from capsem.wire.guest import MCP, NETWORK, Ready, Serve, encode
from capsem.wire.guest import PORTS as WIRE_PORTS
from capsem.wire.monitor import Status

BOOT_SECONDS = {Accelerator.TCG: 60.0, Accelerator.KVM: 15.0, Accelerator.HVF: 15.0}
# How often a machine made ahead is told who it is, and runs commands of ours, with an input and without: QEMU
# translates each way the first time.
AHEAD_RUNS = 3
AHEAD_INPUTS = (True, False)
ENTROPY_BYTES = 64
# By how much this host's clock may have been set, or stood still while the host slept, since a machine was told it.
CLOCK_NS = 10_000_000


def now() -> str:
    """This moment as records have it: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def clock_offset() -> int:
    """Nanoseconds that this host's clock is ahead of one that only goes on and stands while the host sleeps."""
    return time.time_ns() - time.monotonic_ns()


class Running:
    """One machine.

    Attributes:
        record: what was asked for.
        evidence: its log; there from `start` on.
        rules: what decides.
        ended: set once QEMU has ended and everything is on the log.
        unclaimed: whether it was made ahead, and is nobody's.
        became: set once it is somebody's.
        patience: how long it is waited for.
    """

    def __init__(
        self, record: Record, plan: MachinePlan, directory: Path, *, memory: int | None, state: int | None
    ) -> None:
        self.record = record
        self.rules = Rules.of(record.spec.rules, now)
        self.ended = asyncio.Event()
        self.unclaimed = self._prepared = False
        self.became = asyncio.Event()
        self.jobs = 0
        self.commands = Commands()
        self._plan = plan
        self._directory = directory
        self._template = None if memory is None or state is None else (memory, state)
        self._life = Life()
        self._memory: Memory | None = None
        self._qemu: Qemu | None = None
        self._channel: Channel | None = None
        self._evidence: Evidence | None = None
        self._recorder: Evidence | None = None
        self._ready: Ready | None = None
        self._told_at: int | None = None
        self._since = 0.0
        self._why: str | None = None
        self._one_copy = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._recorded: asyncio.Task[None] | None = None
        self._freeing: asyncio.Task[None] | None = None
        self._deadline: asyncio.Task[None] | None = None
        self._one_deadline = asyncio.Lock()
        self._time_over = False
        self._ends_at: float | None = None
        self._reports: list[asyncio.Task[None]] = []
        self.network = Network(record, self._write, directory)
        self.sharing = Sharing(directory, self._write)
        self.patience = Patience(self._write)

    @property
    def channel(self) -> Channel:
        """The way to the agent.

        Raises:
            MachineError: the machine does not run.
        """
        if self._channel is None or self._life.state is not State.RUNNING:
            raise MachineError(f"the machine is {self._life.state}", next_step="see capsem list")
        return self._channel

    @property
    def evidence(self) -> Evidence:
        """Its log.

        Raises:
            MachineError: it was not started.
        """
        if self._evidence is None:
            raise MachineError("the machine has no record", next_step="report this")
        return self._evidence

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        """One of `jobs`, until it ends."""
        self.jobs += 1
        try:
            yield
        finally:
            self.jobs -= 1

    def status(self) -> Status:
        """How it is."""
        ready = self._ready
        return Status(
            id=self.record.id, state=self._life.state.value, pid=os.getpid(),
            qemu_pid=None if self._qemu is None else self._qemu.pid,
            accelerator=self._plan.accelerator.value, board=self._plan.board.value,
            template=self._template is not None, uptime_ms=int((time.monotonic() - self._since) * 1000),
            kernel="" if ready is None else ready.kernel, agent="" if ready is None else ready.agent, jobs=self.jobs,
            problem=self.patience.problem,
            ends_in_ms=None if self._ends_at is None else max(0, int((self._ends_at - time.monotonic()) * 1000)),
        )  # fmt: skip

    async def prepare(self) -> None:
        """Start it ahead of need: it is nobody's, has random numbers of its own, and ran `true` and nothing else.

        That is ours; what QEMU translated for it need not be translated again.

        Raises:
            MachineError: it does not start.
        """
        self.unclaimed = True
        try:
            async with asyncio.timeout(BOOT_SECONDS[self._plan.accelerator]):
                await self._begin()
                # It has nothing to write, and no log, before the machine is somebody's.
                self._recorder = await Evidence.open(places.log(self.record.id), self.record.id, ahead=True)
                for left in reversed(range(AHEAD_RUNS)):
                    await self._rehearse(last=not left)
        except (CapsemError, GuestError, TimeoutError) as error:
            await self._let_go()
            why = str(error) or "it did not answer in time"
            raise MachineError(
                f"the machine does not start ahead: {why}", next_step="see monitor.log"
            ) from error
        self._prepared = True

    async def _rehearse(self, *, last: bool) -> None:
        """What a start and its first commands ask of the guest, so that QEMU has translated it when somebody waits."""
        await self._identify(self.record.id, None)
        await watch(self._agent, self._write)
        if not last and self._qemu is not None:
            # The next identity takes it back: nobody reads these ports before the machine is somebody's.
            for number in (NETWORK, MCP):
                self._qemu.ports[number].send(encode(Serve()))
        for stdin in AHEAD_INPUTS:
            job = await self._agent.exec(["true"], cwd="/root", stdin=stdin, timeout_ms=60_000)
            if stdin:
                job.stdin.end()
            await job.wait()

    async def become(self) -> None:
        """Be the machine that its directory tells of now; returns when commands may be run.

        Raises:
            ConflictError: it was not made ahead, or is somebody's already.
            MachineError: it does not start, or cannot be recorded; it has ended then.
        """
        if not self.unclaimed:
            raise ConflictError("this machine is somebody's", next_step="see capsem list")
        self.unclaimed = False
        place = self._directory / "session.json"
        try:
            self.record = decode(place.read_bytes(), str(place))
            self.rules = Rules.of(self.record.spec.rules, now)
            self.network = Network(self.record, self._write, self._directory)
            await self.start()
        except BaseException:
            await self._let_go()
            self.ended.set()
            raise
        self.became.set()

    async def died(self) -> None:
        """Returns when QEMU has ended."""
        if self._qemu is not None:
            await self._qemu.wait()

    async def leave(self) -> None:
        """End one that is nobody's."""
        await self._let_go()

    @property
    def went_on(self) -> bool:
        """Whether what was kept of it is used up: it has to run, or that is lost."""
        return self._used.exists()

    async def abandon(self, why: str) -> None:
        """End one whose start was broken off."""
        await self._let_go()
        if self._evidence is not None:
            with contextlib.suppress(MachineError):
                await self._evidence.write("machine.boot_failed", {"try": self._life.tries, "reason": why})
            await self._evidence.close()
        with contextlib.suppress(OSError):
            write_whole(places.end(self._directory), msgspec.json.encode(End(State.CRASHED, why)))

    async def start(self) -> None:
        """Launch it, and try again while its boot hangs; returns when commands may be run.

        Raises:
            MachineError: it does not boot, or cannot be recorded.
        """
        log = places.log(self.record.id)
        branched = not log.exists() and self.record.origin is not None
        # QEMU may start beside its recorder; whatever lets its guest run waits for the record.
        self._recorded = asyncio.create_task(self._record_start(log, branched=branched))
        try:
            await self._started(branched=branched)
        finally:
            await asyncio.gather(self._recorded, return_exceptions=True)

    async def _record_start(self, log: Path, *, branched: bool) -> None:
        entry = starting.entry(
            self.record, self._plan, template=self._template is not None and not branched,
            resumed=branched or self._kept.exists(),
        )  # fmt: skip
        evidence, self._recorder = self._recorder, None
        self._evidence = evidence = evidence or await Evidence.open(log, self.record.id)
        if branched:
            await evidence.write("machine.branched", msgspec.to_builtins(self.record.origin))
        await evidence.write("machine.started", entry)

    async def _on_record(self) -> None:
        """Returns when the start is on the log; a machine that is nobody's has none.

        Raises:
            MachineError: it cannot be recorded.
        """
        if self._recorded is not None:
            await asyncio.shield(self._recorded)

    async def _started(self, *, branched: bool) -> None:
        act, why = self._life.step(Event.START), ""
        while act is Act.LAUNCH:
            try:
                async with asyncio.timeout(BOOT_SECONDS[self._plan.accelerator]):
                    await self._launch()
            except (CapsemError, TimeoutError) as error:
                why = str(error) or "it did not answer in time"
                if isinstance(error, TimeoutError):
                    self._life.step(Event.BOOT_LATE)
                await self._let_go()
                await self._on_record()
                await self.evidence.write("machine.boot_failed", {"try": self._life.tries, "reason": why})
                act = self._life.step(Event.QEMU_ENDED)
                if self._used.exists() or branched or self._prepared:
                    # It ran on from where it stood, and its disk is a later one: that cannot be tried again.
                    break
            else:
                self._life.step(Event.AGENT_READY)
                self._since = time.monotonic()
                self._watching = asyncio.create_task(self._watch())
                return
        await self.evidence.close()
        raise MachineError(
            f"the machine does not start: {why}", next_step=f"see {self._directory / 'console.log'}"
        )

    async def _launch(self) -> None:
        if self._qemu is None:
            await self._begin()
        await self._on_record()
        hostname = self.record.spec.name or self.record.id
        authority = await self.network.authority()
        self._reports.append(asyncio.create_task(watch(self._agent, self._write)))
        # It is asked before anything can run that is to be told of.
        await asyncio.sleep(0)
        if not (self._prepared and self._is_told(hostname, authority)):
            await self._identify(hostname, authority)
        assert self._qemu is not None
        self.network.attach(self._qemu.ports[NETWORK], self._qemu.ports[MCP])
        if self.record.spec.live:
            await self.sharing.start(str(self.record.spec.workspace), self._qemu.ports[SHARE], self._agent)
        if (used := starting.used_up(self._used)) is not None:
            self._freeing = asyncio.create_task(asyncio.to_thread(os.close, used))

    async def _identify(self, hostname: str, authority: str | None) -> None:
        """Tell it who it is, with random numbers that no other machine has, and what time it is."""
        self._told_at = clock_offset()
        self._ready = await self._agent.identify(
            os.urandom(ENTROPY_BYTES), hostname, time.time_ns(), authority
        )

    def _is_told(self, hostname: str, authority: str | None) -> bool:
        """Whether it was told all of that when it was made ahead, and its clock still goes by this host's."""
        told_at, same = self._told_at, hostname == self.record.id and authority is None
        return same and told_at is not None and abs(clock_offset() - told_at) < CLOCK_NS

    async def _begin(self) -> None:
        """Start QEMU, and let the guest run; nobody's programs do yet."""
        program = str(find_qemu())
        self._why = None
        resumed = self._kept.exists()
        if resumed:
            self._memory = await asyncio.to_thread(Memory.kept_in, self._kept, self._plan)
        elif self._template is not None:
            self._memory = Memory.of_template(*self._template)
        else:
            self._memory = Memory.empty(self._plan)
        memory = self._memory
        with contextlib.ExitStack() as stack:
            root, disk = open_disks(stack, self._plan, self._directory / "disk")
            files = Files(memory.file, root, disk, self._plan.ports)
            if memory.state is None:
                # This one runs from its first moment on.
                await self._on_record()
                self._qemu = await launch(
                    lambda d: boot(self._plan, d, program=program, shared=memory.shared), files,
                    confine=confined(self._directory / "qemu.log", reads=self._plan.image.kernel),
                )  # fmt: skip
                await self._open_channel(self._qemu)
                await self._agent.hello()
            else:
                # QEMU looks at its memory once it has its state.
                filling = asyncio.create_task(memory.filled())
                try:
                    self._qemu = await launch(
                        lambda d: restore(self._plan, d, program=program, shared=memory.shared), files,
                        confine=confined(self._directory / "qemu.log"),
                    )  # fmt: skip
                finally:
                    await filling
                state = memories.reopened(memory.state)
                stack.callback(os.close, state)
                await self._qemu.load(state)
                await self._open_channel(self._qemu)
                await self._on_record()
                if resumed:
                    # What was kept is used up in the moment in which it runs on: its disk is another then.
                    self._kept.replace(self._used)
                    settle(self._directory)
                await self._qemu.execute("cont")

    @property
    def _kept(self) -> Path:
        return places.suspended(self._directory)

    @property
    def _used(self) -> Path:
        return self._kept.with_name(f"{self._kept.name}.used")

    @property
    def _agent(self) -> Channel:
        assert self._channel is not None
        return self._channel

    async def _open_channel(self, qemu: Qemu) -> None:
        self._keeping = asyncio.create_task(keep(qemu.console, self._directory / "console.log"))
        # What the guest sends to the network is read by the proxy alone.
        ports = {number: qemu.ports[number] for number in WIRE_PORTS if number not in {NETWORK, MCP}}
        self._channel = await Channel(ports).__aenter__()
        self._reports.append(asyncio.create_task(self._disbelieve(self._channel, qemu)))
        # What a machine that is nobody's tells is nobody's, too.
        reports = take(
            self._channel.reports, self._write, now, lambda: self.record.spec if self._evidence else None
        )
        self._reports.append(asyncio.create_task(reports))

    async def _disbelieve(self, channel: Channel, qemu: Qemu) -> None:
        """End a machine whose agent says what none may say: nothing that it tells counts any more."""
        await channel.broken.wait()
        told = "" if channel.error is None else channel.error.message
        self._why = f"what its agent says is not believed any more: {told}"
        qemu.kill()

    async def _watch(self) -> None:
        assert self._qemu is not None
        code = await self._qemu.wait()
        asked = self._life.state is not State.RUNNING
        reset = not asked and self._qemu.was_reset()
        self._life.step(Event.QEMU_DIED if code or reset else Event.QEMU_ENDED)
        state = self._life.state
        if state is State.CRASHED:
            why = "its kernel started again: a panic, or a reboot from inside" if reset else ""
            self._why = self._why or why or f"QEMU ended with {code}"
        await self._let_go()
        fields: dict[str, Any] = {"asked": asked, "qemu_exit": code}
        if state is State.SUSPENDED:
            fields = {"bytes": self._kept.stat().st_blocks * 512}
        elif self._why is not None:
            fields["reason"] = self._why
        with contextlib.suppress(MachineError):
            await self.evidence.write(f"machine.{state}", fields)
        await self.evidence.close()
        with contextlib.suppress(OSError):
            write_whole(places.end(self._directory), msgspec.json.encode(End(state, self._why)))
        self.ended.set()

    async def _write(self, kind: str, fields: dict[str, Any]) -> None:
        await self.evidence.write(kind, fields)

    async def _let_go(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            await recorder.close()
        await self.patience.close()
        await self.sharing.close()
        await self.network.close()
        reports, self._reports = self._reports, []
        for task in reports:
            task.cancel()
        await asyncio.gather(*reports, return_exceptions=True)
        if self._channel is not None:
            await self._channel.__aexit__(None, None, None)
            self._channel = None
        if self._qemu is not None:
            await self._qemu.end()
            self._qemu = None
        if self._keeping is not None:
            await self._keeping
            self._keeping = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None
