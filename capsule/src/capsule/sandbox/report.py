"""The report of one run (`docs/formats/report.md`), typed: what `capsule run --json` writes.

What it refuses: another version, unknown or missing fields, anything that is not one JSON object.

    report = read_report(data)
    report.exit.cause, [denial.target for denial in report.denials]
"""

from __future__ import annotations

from typing import Literal

import msgspec

from capsule.errors import ReportError

MAX_BYTES = 8 << 20

Cause = Literal[
    "exited",
    "signalled",
    "timeout",
    "limit",
    "interrupted",
    "refused",
    "not_found",
    "not_executable",
    "failed",
]
Operation = Literal[
    "read",
    "write",
    "execute",
    "create",
    "remove",
    "rename",
    "link",
    "change",
    "connect",
    "bind",
    "send",
    "syscall",
    "request",
    "resolve",
]
LayerState = str
"""`enforced`, `partial`, `unavailable` or `off`."""


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Exit(_Record, frozen=True):
    """How the run ended. `code` is what capsule exits with; the truth is `cause`."""

    code: int
    cause: Cause
    signal: int | str | None
    limit: str | None
    reason: str | None


class ReportPolicy(_Record, frozen=True):
    """The policy that was enforced; `file` is a path or a preset's name."""

    name: str
    digest: str
    file: str | None


class Enforced(_Record, frozen=True):
    """What was really enforced, layer by layer; `degraded` names what the policy allowed to be missing."""

    tier: str
    layers: dict[str, LayerState]
    landlock_abi: int | None
    digest: str
    degraded: tuple[str, ...]


class DenialRule(_Record, frozen=True):
    """The policy line that refused."""

    text: str
    file: str
    line: int


class Denial(_Record, frozen=True):
    """One thing that was tried and refused."""

    time: str
    program: str | None
    pid: int
    operation: Operation
    syscall: str
    target: str
    layer: Literal["supervisor", "landlock", "seccomp", "view", "network", "permissions", "egress"]
    errno: str
    rule: DenialRule | None
    allow: str | None
    count: int


class Finding(_Record, frozen=True):
    """A rule of detection that fired; `count` says how often."""

    time: str
    id: str
    title: str
    level: str
    file: str
    line: int
    count: int


class Usage(_Record, frozen=True):
    """What the run used."""

    wall_ms: int
    cpu_ms: int
    max_rss_bytes: int


class ReportLog(_Record, frozen=True):
    """Where the run is on the log: entries `first` to `last`."""

    path: str
    id: str
    first: int
    last: int


class Report(_Record, frozen=True):
    """A whole report, version 1. Refused before a run began: `run`, `policy`, `enforced` and `log` are None."""

    version: Literal[1] = msgspec.field(name="capsule")
    run: str | None
    command: tuple[str, ...]
    cwd: str
    exit: Exit
    policy: ReportPolicy | None
    enforced: Enforced | None
    denials: tuple[Denial, ...]
    denials_total: int
    findings: tuple[Finding, ...]
    repositories: tuple[str, ...]
    executed: int
    written: int
    usage: Usage | None
    log: ReportLog | None


def read_report(data: bytes) -> Report:
    """The report in `data`: one JSON object, with or without a newline after it.

    Raises:
        ReportError: when it is not a report of this version.
    """
    next_step = "use the capsule binary that belongs to this package"
    if len(data) > MAX_BYTES:
        raise ReportError(f"the report is {len(data)} bytes long, more than {MAX_BYTES}", next_step=next_step)
    try:
        return msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ReportError(f"this is not a report of a run: {str(error)[:200]}", next_step=next_step) from None
