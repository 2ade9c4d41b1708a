"""The report of a command: one JSON object, the last line of standard error, as `capsule run --json` writes one.

Refuses nothing; what could not be done at all has a report, too.

    code = reported(["true"], work, Course(), as_json=True)     # async def work(course: Course) -> int
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from capsem.cli import terminal
from capsem.errors import (
    NoSuchCommandError,
    NotExecutableError,
    RefusedError,
)
from capsem.wire.monitor import Exited
from capsule.errors import CapsuleError

_CAUSES: dict[type[CapsuleError], str] = {
    RefusedError: "refused", NoSuchCommandError: "not_found", NotExecutableError: "not_executable",
}  # fmt: skip


class Course:
    """How it went, filled in on the way.

    Attributes:
        machine: as the service shows it; None: there was none.
        exited: how the command ended; None: it did not run.
    """

    def __init__(self, machine: dict[str, Any] | None = None) -> None:
        self.machine = machine
        self.exited: Exited | None = None


def code_of(exited: Exited) -> int:
    """A command's exit code as ours: its own, 128 and its signal, or 124 when its time was over."""
    return 124 if exited.timed_out else exited.exit_code


def reported(
    argv: Sequence[str], work: Callable[[Course], Awaitable[int]], course: Course, *, as_json: bool
) -> int:
    """Run `work`, which fills in the course; with `as_json` write its report. Returns the exit code.

    Raises:
        CapsuleError: what went wrong, when no report is wanted.
    """

    async def begun() -> int:
        return await work(course)

    if not as_json:
        return asyncio.run(begun())
    since, fault = time.monotonic(), None
    try:
        code = asyncio.run(begun())
    except CapsuleError as error:
        code, fault = error.exit_code, error
    wall_ms = int((time.monotonic() - since) * 1000)
    terminal.report(_report(argv, course, code, fault, wall_ms))
    return code


def unbegun(error: CapsuleError) -> None:
    """The report where nothing was begun: the command line was wrong, or something that it names."""
    terminal.report(_report((), Course(), error.exit_code, error, 0))


def _report(
    argv: Sequence[str], course: Course, code: int, fault: CapsuleError | None, wall_ms: int
) -> dict[str, Any]:
    exited, machine = course.exited, course.machine or {}
    cause = "failed" if exited is None else "exited" if exited.code is not None else "signalled"
    if fault is not None:
        cause = next((text for kind, text in _CAUSES.items() if isinstance(fault, kind)), "failed")
    elif exited is not None and exited.timed_out:
        cause = "timeout"
    usage = {"wall_ms": wall_ms}
    if exited is not None:
        usage |= {"cpu_ms": exited.cpu_ms, "max_rss_bytes": exited.max_rss_bytes}
    return {
        "capsem": 1, "machine": machine.get("id"), "command": list(argv),
        "exit": {
            "code": code, "cause": cause, "signal": None if exited is None else exited.signal,
            "reason": None if fault is None else fault.message,
            "next_step": None if fault is None else fault.next_step,
        },
        "timed_out": exited is not None and exited.timed_out, "usage": usage,
        "seen": None if exited is None or exited.seen is None else msgspec.to_builtins(exited.seen),
        "log": machine.get("log"),
    }  # fmt: skip
