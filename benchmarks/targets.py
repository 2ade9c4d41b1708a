"""What is aimed at in speed and size, and whether the latest results meet it. Nothing is met that was not measured.

rows = judge(documents)      # documents: results/*.json by question
rows[0].met                  # True, False, or None: not measured
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.floor import ASKED, UNASKED

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Target:
    """One bound.

    Attributes:
        what: the question, with its peer.
        bound: in `unit`.
        most: the measured value has to be at most the bound; else at least.
        unit: as written behind a number.
        measure: the value from the results; KeyError where nobody measured it.
        floor: what nothing can be better than here, in `unit`, likewise; None where none is measured.
    """

    what: str
    bound: float
    most: bool
    unit: str
    measure: Callable[[Documents], float]
    floor: Callable[[Documents], float] | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A target, and what was measured."""

    target: Target
    measured: float | None
    floor: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it holds; None: not measured."""
        if self.measured is None:
            return None
        bound = self.target.bound
        return self.measured <= bound if self.target.most else self.measured >= bound

    @property
    def above(self) -> float | None:
        """The measured value in percent of the floor; None where there is no floor, or nothing above zero."""
        if self.measured is None or self.floor is None or self.floor <= 0:
            return None
        return 100 * self.measured / self.floor

    @property
    def margin(self) -> float | None:
        """How many times better than the target; below 1 where it is not met."""
        if self.measured is None:
            return None
        if self.target.bound == 0:  # nothing is better than none
            return 1.0 if self.met else 0.0
        better = (self.target.bound, max(self.measured, 1e-9))
        return better[0] / better[1] if self.target.most else better[1] / better[0]


def judge(documents: Documents) -> list[Judged]:
    """Every target, in order."""
    return [
        Judged(target, _value(target.measure, documents), _value(target.floor, documents))
        for target in TARGETS
    ]


def _value(measure: Callable[[Documents], float] | None, documents: Documents) -> float | None:
    if measure is None:
        return None
    try:
        return measure(documents)
    except KeyError:
        return None


def _median(documents: Documents, question: str, section: str, name: str) -> float:
    for row in documents[question]["sections"][section]:
        if str(row["name"]).strip() == name:
            return float(row["median"])
    raise KeyError(name)


def _fact(documents: Documents, question: str, name: str) -> float:
    return float(documents[question]["facts"][name])


def _launch(documents: Documents, peer: str, than: str = "capsule run, full tier + log") -> float:
    return _median(documents, "launch", "launch", peer) / _median(documents, "launch", "launch", than)


def _overhead(documents: Documents, program: str, variant: str = "capsule run (audit writes)") -> float:
    return 100 * (float(documents["steady"]["facts"]["steady"][program][variant]) - 1)


def _trace(documents: Documents) -> float:
    programs = ("import storm", "gcc hello.c", "pip list")
    return max(
        _median(documents, "steady", name, "capsule trace")
        / _median(documents, "steady", name, "strace -f -c")
        for name in programs
    )


def _requests(documents: Documents) -> float:
    ours, theirs = (
        _fact(documents, "egress", f"{name}, 64 connections, requests/s")
        for name in ("capsule-egress", "mitmdump")
    )
    return ours / theirs


def _added(documents: Documents, by: str = "capsule-egress") -> float:
    section = "HTTPS requests, 1 connections"
    return _median(documents, "egress", section, by) - _median(documents, "egress", section, "direct")


def _added_to(documents: Documents) -> float:
    return _added(documents) / _added(documents, "mitmdump")


def _machine(documents: Documents, name: str, section: str = "a machine") -> float:
    return _median(documents, "machine", section, name)


def _bare(documents: Documents, *names: str) -> float:
    """A QEMU from the same template with nothing around it."""
    return sum(_machine(documents, f"bare clone, {name}") for name in names)


def _many(documents: Documents, number: int, name: str) -> float:
    return float(documents["density"]["facts"]["machines at once"][str(number)][name])


RUN = "capsule run (audit run)"
_WARM = "one call of a Python function"
TARGETS = (
    Target("`capsule run -- true`, full tier and log, to bubblewrap with its view", 0.6, True, "times",
            lambda d: 1 / _launch(d, "bwrap --unshare-all, same view"),
            lambda d: 1 / _launch(d, "bwrap --unshare-all, same view", ASKED)),
    Target("codex's sandbox to `capsule run -- true`", 10, False, "times", lambda d: _launch(d, "codex sandbox"),
            lambda d: _launch(d, "codex sandbox", ASKED)),
    Target("sandbox-runtime to `capsule run -- true`", 100, False, "times",
            lambda d: _launch(d, "sandbox-runtime (srt)"),
            lambda d: _launch(d, "sandbox-runtime (srt)", ASKED)),
    Target("a warm `@capsule.tool` call, one every 2 ms", 0.6, True, "ms",
            lambda d: _median(d, "sdk", _WARM, "tool, warm, every 2 ms"),
            lambda d: _median(d, "sdk", _WARM, "a byte through two processes and back, every 2 ms")),
    Target("a warm `@capsule.tool` call, back to back", 0.6, True, "ms",
            lambda d: _median(d, "sdk", _WARM, "tool, warm, back to back"),
            lambda d: _median(d, "sdk", _WARM, "fork and wait of the same worker")),
    Target("steady state, an import storm", 1, True, "%", lambda d: _overhead(d, "import storm"),
            lambda d: _overhead(d, "import storm", ASKED)),
    Target("steady state, `gcc hello.c`", 5, True, "%", lambda d: _overhead(d, "gcc hello.c"),
            lambda d: _overhead(d, "gcc hello.c", ASKED)),
    Target("steady state, `pip list`", 5, True, "%", lambda d: _overhead(d, "pip list"),
            lambda d: _overhead(d, "pip list", ASKED)),
    *(
        Target(f"the same, {name}, with `audit: run`", most, True, "%",
                partial(_overhead, program=program, variant=RUN),
                partial(_overhead, program=program, variant=UNASKED))
        for name, program, most in (
            ("an import storm", "import storm", 1), ("`gcc hello.c`", "gcc hello.c", 5), ("`pip list`", "pip list", 5),
        )
    ),
    Target("`capsule profile` to `strace -f -c`, the worst of these three", 0.75, True, "times", _trace),
    Target("log: entries appended a second", 400_000, False, "",
            lambda d: _fact(d, "log", "entries appended per second")),
    Target("log of 5 M entries, 1 GB: chain checked", 300, True, "ms", lambda d: _median(d, "log", "log", "chain")),
    Target("log of 5 M entries, 1 GB: everything checked", 2500, True, "ms",
            lambda d: _median(d, "log", "log", "everything")),
    Target("log: memory held while checking", 64, True, "MB",
            lambda d: _fact(d, "log", "most memory held while checking, MB")),
    Target("egress: requests a second, 64 connections, to mitmdump", 1, False, "times", _requests),
    Target("egress: added to one request", 0.8, True, "ms", _added),
    Target("the same, to what mitmdump adds", 1, True, "times", _added_to),
    Target("egress: 1 GiB inspected, on one core", 250, False, "MB/s",
            lambda d: _fact(d, "egress", "1 GiB inspected, MB/s of one core")),
    Target("egress: passed through, to direct", 0.6, False, "times",
            lambda d: _fact(d, "egress", "passed through, part of direct")),
    Target("names: answers a second", 5000, False, "", lambda d: _fact(d, "egress", "names, answers/s")),
    Target("rules: decisions a second over 200", 50_000, False, "",
            lambda d: _fact(d, "rules", "200 rules, a second")),
    Target("rules: events a second over 100 Sigma rules", 2000, False, "",
            lambda d: _fact(d, "rules", "100 Sigma rules, a second")),
    Target("rules: a changed one of 200 is in force", 50, True, "ms",
            lambda d: _median(d, "rules", "rules", "one of 200 rules changed")),
    Target("sessions: entries taken in a second", 50_000, False, "",
            lambda d: _fact(d, "sessions", "entries taken in per second (median, with starting the interpreter)")),
    Target("egress, 10 minutes of 8 programs: requests that failed", 0, True, "",
            lambda d: _fact(d, "soak_egress", "requests that failed")),
    Target("the same: the slowest request", 1, True, "s",
            lambda d: _fact(d, "soak_egress", "slowest request, s")),
    Target("the same: the longest that egress itself kept anybody waiting", 1, True, "s",
            lambda d: _fact(d, "soak_egress", "longest that egress itself kept anybody waiting, s")),
    Target("the same: memory at rest, at the end less at half", 5, True, "MB",
            lambda d: _fact(d, "soak_egress", "memory at rest, the end less the half, MB")),
    Target("a machine: made, and `exec true` done", 120, True, "ms", lambda d: _machine(d, "create and exec true"),
            lambda d: _bare(d, "to its identity", "first exec true")),
    Target("the same from a pool", 40, True, "ms", lambda d: _machine(d, "create and exec true", "from a pool"),
            lambda d: _machine(d, "bare clone made ahead, identity and exec true", "from a pool")),
    Target("`capsem run true` from a shell", 350, True, "ms", lambda d: _machine(d, "capsem run true, from a shell"),
            lambda d: _machine(d, "an interpreter that does nothing")
            + _bare(d, "to its identity", "first exec true", "ended")),
    Target("`exec true` again and again", 20, True, "ms", lambda d: _machine(d, "exec true again"),
            lambda d: _bare(d, "exec true again")),
    Target("a key at a machine's terminal, shown", 5, True, "ms",
            lambda d: _machine(d, "a key at a terminal, shown", "a terminal")),
    Target("a command's output", 100, False, "MB/s", lambda d: _fact(d, "machine", "exec output, MB/s")),
    Target("a file into a machine", 100, False, "MB/s", lambda d: _fact(d, "machine", "file in, MB/s")),
    Target("a file out of a machine", 100, False, "MB/s", lambda d: _fact(d, "machine", "file out, MB/s")),
    Target("a live branch: the parent stands still", 100, True, "ms",
            lambda d: _machine(d, "branch, parent paused", "copies")),
    Target("a live branch: then its child answers", 80, True, "ms",
            lambda d: _machine(d, "branch, child answers after the pause", "copies"),
            lambda d: _bare(d, "to its identity")),
    Target("suspend, 512 MiB", 500, True, "ms", lambda d: _machine(d, "suspend", "copies")),
    Target("resume, 512 MiB", 200, True, "ms", lambda d: _machine(d, "resume", "copies"),
            lambda d: _bare(d, "to its identity")),
    Target("20 machines at once, all ready", 1500, True, "ms", lambda d: _many(d, 20, "all ready, ms")),
    Target("unique memory of an idle machine, all its processes", 60, True, "MB",
            lambda d: _many(d, 20, "unique, fresh, MB")),
    Target("the same after a command", 60, True, "MB", lambda d: _many(d, 20, "unique, MB")),
    Target("20 machines at rest, of one core", 6, True, "%", lambda d: _many(d, 20, "at rest, % of a core"),
            lambda d: _many(d, 20, "bare QEMUs at rest, % of a core")),
    Target("machines that come and go: acts that failed", 0, True, "",
            lambda d: _fact(d, "soak_machine", "acts that failed")),
    Target("the same: processes, descriptors, sessions, sockets more than at first", 0, True, "",
            lambda d: _fact(d, "soak_machine", "processes, descriptors, sessions and sockets more than at first")),
    Target("the same: the service's memory more than at first", 10, True, "MB",
            lambda d: _fact(d, "soak_machine", "memory more than at first, MB")),
)  # fmt: skip


def written(value: float, unit: str) -> str:
    """A number as one reads it."""
    if value >= 1000:
        text = f"{value:,.0f}".replace(",", " ")
    else:
        text = f"{value:.3g}" if value >= 1 else f"{value:.2f}".rstrip("0").rstrip(".") or "0"
    return f"{text} {unit}".strip()


def table(rows: list[Judged]) -> list[str]:
    """The rows in markdown."""
    lines = ["| what | target | measured | met | floor | of it |", "|---|--:|--:|---|--:|--:|"]
    for row in rows:
        target = row.target
        bound = f"{'≤' if target.most else '≥'} {written(target.bound, target.unit)}"
        measured = "-" if row.measured is None else written(row.measured, target.unit)
        met = {True: "yes", False: "**no**", None: "not measured"}[row.met]
        floor = "" if row.floor is None else written(row.floor, target.unit)
        above = "" if row.above is None else f"{row.above:.0f} %"
        lines.append(f"| {target.what} | {bound} | {measured} | {met} | {floor} | {above} |")
    return [*lines, ""]
