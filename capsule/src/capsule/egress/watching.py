"""Detection while a run goes on: events of egress and entries of the run before the policy's packs; it decides nothing.

Entries of the run come up to a tenth of a second after they happened, so events are held for `HELD` and looked at in
the order of their times: a file read before a request is seen before it. A rule that fires again within `EQUAL` is
counted. Refuses rules that do not compile, by saying which (`problems`): then the session denies everything.

    watch = Watch(plan.detect, sources, found=write, clock=loop.time, later=loop.call_later)
    watch.problems or recorder.observers.append(watch.see)
    watch.entry({"seq": 7, "run": "r-1", "time": "…", "type": "exec", …})
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from capsule.egress.frames import FrameError, Source
from capsule.errors import CapsuleError
from capsule.rules.detection.detector import Detector, time_us
from capsule.rules.detection.finding import Finding
from capsule.rules.detection.packs import NAMES, load_pack
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.entry import event_of

HELD = 0.3
"""Seconds that an event waits for earlier ones."""
EQUAL = 1.0
"""Seconds in which findings of one rule are one entry."""
MOST_HELD = 10_000
"""Events that wait; one more lets the earliest go."""
MOST_EVENTS = 32
"""Events that one finding names."""

Json = dict[str, Any]


class Watch:
    """The detection of one session.

    Args:
        named: `detect` of the plan.
        sources: what the supervisor read.
        found: takes the fields of an entry `egress.finding`.
        clock: seconds of a clock that only goes on.
        later: runs a function after so many seconds.

    Attributes:
        problems: what does not compile; then nothing is watched.
    """

    def __init__(
        self,
        named: Iterable[Any],
        sources: Iterable[Source],
        *,
        found: Callable[[Json], None],
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        self.problems: list[str] = []
        self._found = found
        self._clock = clock
        self._later = later
        self._waking = False
        self._held: list[tuple[int, int, Json]] = []
        self._came: deque[tuple[float, int]] = deque()
        self._count = 0
        self._last_us = 0
        self._open: dict[tuple[str, ...], _Counted] = {}
        texts: list[tuple[str, str]] = []
        known = tuple(sources)
        for one in named:
            pack, path = one.get("pack"), one.get("path")
            if pack is not None:
                files = load_pack(pack)
                if files is None:
                    self.problems.append(
                        f"there is no pack {pack!r} of detection; there are: {', '.join(NAMES)}"
                    )
                texts += files or []
            else:
                below = [(s.path, s.text) for s in known if s.path == path or s.path.startswith(f"{path}/")]
                if not below:
                    self.problems.append(f"{path} was not read")
                texts += below
        parsed = []
        for file, text in texts:
            try:
                parsed.append(parse_sigma(text, file))
            except CapsuleError as error:
                self.problems.append(str(error))
        self._detector = Detector(() if self.problems else parsed)

    def see(self, entry: Json) -> None:
        """One entry of egress, as it was written."""
        if "event" in entry:
            self._hold(entry)

    def entry(self, entry: Json) -> None:
        """One entry of the run, as it is on the log; in findings it is `RUN/SEQ`.

        Raises:
            FrameError: it is no entry of a log.
        """
        whole = {"type": str, "time": str, "run": str, "seq": int}
        if any(not isinstance(entry.get(name), kind) for name, kind in whole.items()):
            raise FrameError("an entry of the run without type, time, run or seq")
        kind, event = event_of(entry)
        if kind in self._detector.types and "event" in event:
            event["event"]["id"] = f"{entry['run']}/{entry['seq']}"
            self._hold(event)

    def conclude(self) -> None:
        """Nothing comes any more: everything is looked at and told."""
        self._came.clear()
        self._look(None)
        self._tell(everything=True)

    def _hold(self, event: Json) -> None:
        if event["event"]["type"] not in self._detector.types:
            return
        self._count += 1
        at_us = self._last_us = time_us(event["event"].get("time")) or self._last_us
        heapq.heappush(self._held, (at_us, self._count, event))
        self._came.append((self._clock(), at_us))
        if len(self._held) > MOST_HELD:
            self._look(self._held[0][0])
        self._wake(HELD)

    def _wake(self, seconds: float) -> None:
        if not self._waking:
            self._waking = True
            self._later(seconds, self._turn)

    def _turn(self) -> None:
        self._waking = False
        ripe = self._clock() - HELD + 0.001  # a timer may be a little early
        until_us = None
        while self._came and self._came[0][0] <= ripe:
            at_us = self._came.popleft()[1]
            until_us = at_us if until_us is None else max(until_us, at_us)
        if until_us is not None:
            self._look(until_us)
        self._tell(everything=False)
        if self._held or self._open:
            self._wake(HELD)

    def _look(self, until_us: int | None) -> None:
        """Looks at what is held, in order, up to a time."""
        while self._held and (until_us is None or self._held[0][0] <= until_us):
            _, _, event = heapq.heappop(self._held)
            for finding in self._detector.observe(event):
                self._note(finding)

    def _note(self, finding: Finding) -> None:
        key = (finding.rule.file, finding.rule.id, *finding.group)
        counted = self._open.get(key)
        if counted is None:
            self._open[key] = _Counted(self._clock() + EQUAL)
            self._found(finding.record())
        else:
            counted.add(finding)

    def _tell(self, *, everything: bool) -> None:
        now = self._clock()
        for key, counted in list(self._open.items()):
            if not everything and counted.until > now:
                continue
            del self._open[key]
            if counted.record is not None:
                self._found(counted.record)
                self._open[key] = _Counted(now + EQUAL)
        if everything:
            self._open.clear()


class _Counted:
    """Findings of one rule after the first, until they are told."""

    __slots__ = ("record", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.record: Json | None = None

    def add(self, finding: Finding) -> None:
        if self.record is None:
            self.record = finding.record()
            return
        self.record["times"] = self.record.get("times", 1) + 1
        self.record["events"] = [*self.record["events"], *finding.events][-MOST_EVENTS:]
