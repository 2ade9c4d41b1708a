"""What the guest tells of itself, put on the machine's log with that word: programs that run or end, files that change.

Nothing is decided by it; the policy's detection looks at it, and what fires is on the log (`guest.finding`). It refuses
to believe that a guest stops: what is over so many bytes a second is counted, and the count is on the log
(`guest.lost`); a flood is read slowly, and keeps nobody waiting but the guest's own reports.

    reporting = Reporting(evidence.write, now)
    await reporting.record(await channel.reports.taken())
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from capsem.errors import CapsemError, MachineError, NoRoomError
from capsem.host.channel import Channel
from capsem.host.jobs import GuestError
from capsem.host.reports import Reports
from capsem.vm.network import NetworkSpec
from capsem.vm.spec import MachineSpec
from capsem.wire.guest import Change, Ended, Lost, Ran, Report

if TYPE_CHECKING:
    from capsule.egress.watching import Watch

WATCHED = (
    "/workspace", "/etc", "/root", "/home", "/usr/local", "/usr/bin", "/usr/sbin", "/opt", "/srv", "/var/spool",
)  # fmt: skip
"""Directories whose changes a machine tells: where work is done, and where what runs by itself is set up."""
AT_ONCE, A_SECOND = 1 << 20, 32 << 10
"""Bytes of entries of one kind that a guest may have written: at once, and a second. A flood of one hides no other."""
ENTRY = 200
"""Bytes that an entry costs beside what is in it."""
GAP_SECONDS = 1.0
"""How often it is recorded that something was lost."""
FLOOD_SECONDS = 0.5
"""How long what a guest tells waits, once it has told more than is recorded."""
LOSSES = 64
"""Times that a guest may say at once that it lost something; it says so once a second, of three things."""
PROGRAMS = 8192
"""Running programs whose paths are known, to say which one started another."""

WriteEntry = Callable[[str, dict[str, Any]], Awaitable[None]]
_OPERATIONS = {
    "create": "create",
    "write": "write",
    "remove": "remove",
    "rename": "rename",
    "attributes": "change",
}
_OF = {Ran: "processes", Ended: "processes", Change: "changes"}
_GUEST = {"reported_by": "guest"}


class Reporting:
    """The reports of one machine.

    Args:
        write: puts an entry on the log.
        now: this moment, RFC 3339.
        clock: seconds of a clock that only goes on.
    """

    def __init__(
        self, write: WriteEntry, now: Callable[[], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._now = now
        self._clock = clock
        self._count = 0
        self._left = dict.fromkeys(("processes", "changes", "findings"), (float(AT_ONCE), clock()))
        self._lost: dict[tuple[str, str], int] = {}
        self._gap = clock() - GAP_SECONDS
        self._programs: dict[int, str] = {}
        self._watch: Watch | None = None
        self._found: list[dict[str, Any]] = []

    def detect(self, network: NetworkSpec | None) -> list[str]:
        """Let the policy's detection look at what is told from now on; what of it does not compile, in words."""
        if network is None or not (named := network.plan["detect"]):
            return []
        # The engine of detection is large; a machine without any does not load it.
        from capsule.egress.frames import Source
        from capsule.egress.watching import Watch

        loop = asyncio.get_running_loop()
        sources = [Source(one.path, one.text) for one in network.sources]
        watch = Watch(named, sources, found=self._find, clock=loop.time, later=loop.call_later)
        self._watch = None if watch.problems else watch
        return watch.problems

    def conclude(self) -> None:
        """Nothing comes any more: what detection holds is looked at."""
        if self._watch is not None:
            self._watch.conclude()

    def _find(self, finding: dict[str, Any]) -> None:
        if self._affordable("findings", finding):
            self._found.append(finding)
        else:
            self._lose("findings", "host", 1)

    async def run(self, reports: Reports) -> None:
        """Record until it is cancelled.

        Raises:
            MachineError: it cannot be recorded.
        """
        while True:
            waiting: list[Report] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GAP_SECONDS if self._lost or self._watch else None):
                    waiting = await reports.taken()
            if not await self.record(waiting):
                await asyncio.sleep(FLOOD_SECONDS)

    async def record(self, untrusted: Sequence[Report]) -> bool:
        """Put them on the log; False: not all of them.

        Raises:
            MachineError: they cannot be recorded.
        """
        whole = sum(isinstance(report, Lost) for report in untrusted) <= LOSSES
        for report in untrusted:
            if isinstance(report, Lost):
                self._lose(report.what, "guest", report.count)
            elif self._affordable(_OF[type(report)], report):
                kind, entry = self._entry(report)
                if not await self._put(kind, entry, _OF[type(report)]):
                    whole = False
                if self._watch is not None:
                    self._watch.see(entry)
            else:
                whole = False
                self._lose(_OF[type(report)], "host", 1)
        found, self._found = self._found, []
        for finding in found:
            await self._put("guest.finding", {**finding, **_GUEST}, "findings")
        if self._lost and self._clock() - self._gap >= GAP_SECONDS:
            self._gap = self._clock()
            lost, self._lost = self._lost, {}
            for (what, by), count in lost.items():
                said = _GUEST if by == "guest" else {}
                try:
                    await self._write("guest.lost", {"what": what, "count": count, "by": by, **said})
                except NoRoomError:
                    self._lose(what, by, count)
        return whole

    async def _put(self, kind: str, entry: dict[str, Any], what: str) -> bool:
        """Whether it is on the log; where there is no room, it is counted."""
        try:
            await self._write(kind, entry)
        except NoRoomError:
            self._lose(what, "host", 1)
            return False
        return True

    def _lose(self, what: str, by: str, count: int) -> None:
        so_far = self._lost.get((what, by), 0)
        # The guest's number may be any; a log's has an end.
        self._lost[what, by] = min(so_far + count, (1 << 53) - 1)

    def _affordable(self, what: str, told: Any) -> bool:
        left, counted = self._left[what]
        now = self._clock()
        left = min(float(AT_ONCE), left + (now - counted) * A_SECOND)
        cost = len(msgspec.json.encode(told)) + ENTRY
        self._left[what] = (left - cost if cost <= left else left, now)
        return cost <= left

    def _entry(self, report: Ran | Ended | Change) -> tuple[str, dict[str, Any]]:
        match report:
            case Ran():
                return "guest.process", self._ran(report)
            case Ended():
                path = self._programs.pop(report.pid, None)
                how = {"code": report.code} if report.signal is None else {"signal": report.signal}
                return "guest.exit", {"process": {"pid": report.pid, **_named(path)}, **how, **_GUEST}
            case Change():
                name = report.path.rpartition("/")[2]
                stem, dot, ext = name.rpartition(".")
                file = {"operation": _OPERATIONS[report.what], "path": report.path, "name": name}
                file |= {"ext": ext} if dot and stem else {}
                file |= {} if report.from_ is None else {"from": report.from_}
                return "guest.file", {**self._event("file"), "file": file, **_GUEST}

    def _ran(self, report: Ran) -> dict[str, Any]:
        process: dict[str, Any] = {"pid": report.pid, **_named(report.program)}
        if report.argv is not None:
            process |= {"argv": list(report.argv), "command": " ".join(report.argv)}
            if report.program is None and report.argv:
                process["name"] = report.argv[0].rpartition("/")[2]
        for name in ("parent", "uid"):
            if (value := getattr(report, name)) is not None:
                process[name] = value
        if report.cut:
            process["cut"] = True
        # A process that runs something else now, or a number that is another's: what was known of it is over.
        self._programs.pop(report.pid, None)
        if report.program is not None and len(self._programs) < PROGRAMS:
            self._programs[report.pid] = report.program
        entry = {**self._event("process"), "process": process, **_GUEST}
        if report.parent is not None:
            started_by = {"pid": report.parent, **_named(self._programs.get(report.parent))}
            entry["program"] = {**started_by, **_GUEST}
        return entry

    def _event(self, kind: str) -> dict[str, Any]:
        self._count += 1
        return {"event": {"id": f"guest-{self._count}", "type": kind, "time": self._now()}}


async def take(
    reports: Reports, write: WriteEntry, now: Callable[[], str], whose: Callable[[], MachineSpec | None]
) -> None:
    """Record what a machine tells until it is cancelled, and what has come by then; a log that is gone ends it.

    Args:
        reports: what it tells; what is told while it is nobody's is dropped.
        write: puts an entry on its log.
        now: this moment, RFC 3339.
        whose: what was asked for; None: it is nobody's.
    """
    while (spec := whose()) is None:
        await reports.some()
        if whose() is None:
            reports.rest()
    reporting = Reporting(write, now)
    with contextlib.suppress(MachineError):
        if problems := reporting.detect(spec.network):
            await write("machine.network_problem", {"problems": problems})
        try:
            await reporting.run(reports)
        finally:
            await reporting.record(reports.rest())
            reporting.conclude()
            await reporting.record([])


async def watch(channel: Channel, write: WriteEntry) -> None:
    """Ask the machine to tell; that it cannot is on its log."""
    try:
        await channel.watch(processes=True, changes=WATCHED)
    except GuestError as error:
        with contextlib.suppress(MachineError):
            await write("machine.unreported", {"reason": error.message})
    except CapsemError:
        # The machine has ended, which is told by who waits for it.
        return


def _named(path: str | None) -> dict[str, Any]:
    return {} if path is None else {"path": path, "name": path.rpartition("/")[2]}
