"""What a run or a call came to, and what the security layer saw meanwhile. Frozen values, nothing to close.

Refuses a report that is not of the documented form (docs/formats/report.md).

    result = capsule.run(["git", "status"])
    result.code, result.text, result.denials, result.enforced.tier, result.log.path
    print(result)            # git status: exit 0 in 12 ms, full tier, nothing denied
"""

from __future__ import annotations

import contextvars
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from capsule.errors import ReportError
from capsule.unprintable import made_visible

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Rule:
    """The policy line that refused: its text, its file, its line (from 1)."""

    text: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Denial:
    """One thing the sandbox refused. The fields are those of docs/formats/report.md."""

    operation: str
    target: str
    program: str
    layer: str
    errno: str
    syscall: str = ""
    pid: int = 0
    time: str = ""
    rule: Rule | None = None
    allow: str | None = None
    count: int = 1

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        why = f"{self.rule.file}:{self.rule.line}: {self.rule.text}" if self.rule else "nothing allows it"
        hint = f"; to allow: {' '.join(self.allow.split())}" if self.allow else ""
        return made_visible(
            f"denied {self.operation} {self.target}{times} [{self.layer}, {self.errno}: {why}{hint}]"
        )

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Denial:
        """From one element of a report's `denials`."""
        rule = found.get("rule")
        known = {name: found[name] for name in cls.__slots__ if name in found and name != "rule"}
        return cls(rule=Rule(rule["text"], rule["file"], rule["line"]) if rule else None, **known)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule of detection that fired, and how often. The fields are those of docs/formats/report.md."""

    id: str
    title: str
    level: str
    file: str
    line: int
    time: str = ""
    count: int = 1

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        return made_visible(f"found {self.level} {self.title or self.id}{times} [{self.file}:{self.line}]")


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended: `code` as a shell would say it, and the true `cause`."""

    code: int
    cause: str
    signal: int | None = None
    limit: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What was enforced: the tier, each layer's state, what the caller allowed to be missing."""

    tier: str = ""
    layers: Mapping[str, str] = field(default_factory=dict)
    landlock_abi: int | None = None
    digest: str | None = None
    degraded: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Wall and processor milliseconds, and the largest resident set in bytes."""

    wall_ms: int = 0
    cpu_ms: int = 0
    max_rss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where the evidence is: entries `first` to `last` of the log at `path`."""

    path: str
    id: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """What `capsule.run` returns. A non-zero code is a result, not an error."""

    command: Sequence[str]
    exit: Exit
    stdout: bytes = b""
    stderr: bytes = b""
    run: str | None = None
    denials: Sequence[Denial] = ()
    denials_total: int = 0
    findings: Sequence[Finding] = ()
    repositories: Sequence[str] = ()
    enforced: Enforcement = field(default_factory=Enforcement)
    usage: Usage = field(default_factory=Usage)
    log: LogPosition | None = None

    @property
    def code(self) -> int:
        """The exit code."""
        return self.exit.code

    @property
    def ok(self) -> bool:
        """Whether it exited by itself, with 0."""
        return self.exit.code == 0 and self.exit.cause == "exited"

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def error_text(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stderr.decode("utf-8", "replace")

    def __str__(self) -> str:
        how = f"exit {self.code}" if self.exit.cause == "exited" else f"{self.exit.cause}, exit {self.code}"
        if self.exit.reason:
            how += f" ({self.exit.reason})"
        tier = f", {self.enforced.tier} tier" if self.enforced.tier else ""
        denied = f"{self.denials_total} denied" if self.denials_total else "nothing denied"
        lines = [f"{shlex.join(self.command)[:200]}: {how} in {self.usage.wall_ms} ms{tier}, {denied}"]
        lines += [f"  {denial}" for denial in self.denials[:10]]
        lines += [f"  {finding}" for finding in self.findings[:10]]
        lines += [f"  made a repository: {name}" for name in self.repositories[:10]]
        return "\n".join(map(made_visible, lines))

    @classmethod
    def from_report(cls, text: bytes, stdout: bytes = b"", stderr: bytes = b"") -> RunResult:
        """From the native side's report.

        Raises:
            ReportError: it is not of the documented form.
        """
        try:
            found = json.loads(text)
            if found["capsule"] != 1:
                raise ReportError(
                    "a report of another version", next_step="install matching versions of both sides"
                )
            enforced, usage, log = found.get("enforced") or {}, found.get("usage") or {}, found.get("log")
            return cls(
                command=tuple(found["command"]),
                exit=Exit(**found["exit"]),
                stdout=stdout,
                stderr=stderr,
                run=found["run"],
                denials=tuple(Denial.from_json(denial) for denial in found["denials"]),
                denials_total=found["denials_total"],
                repositories=tuple(found["repositories"]),
                findings=tuple(Finding(**finding) for finding in found["findings"]),
                enforced=Enforcement(**enforced),
                usage=Usage(**usage),
                log=LogPosition(**log) if log else None,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ReportError(
                f"the native side's report is not of the documented form: {error!r}",
                next_step="install matching versions of both sides",
            ) from None


@dataclass(frozen=True, slots=True)
class ToolResult(Generic[R_co]):
    """What one tool call came to: its value, and what the security layer saw meanwhile.

    Attributes:
        value: what the function returned.
        denials: what was refused to it, whether or not it noticed.
        denials_total: how often, when more than are listed.
        microseconds: from arrival at the supervisor to the answer.
        log: first and last entry of the call on that log.
    """

    value: R_co
    denials: Sequence[Denial] = ()
    denials_total: int = 0
    microseconds: int = 0
    log: tuple[int, int] = (0, 0)


_last: contextvars.ContextVar[ToolResult[Any] | None] = contextvars.ContextVar("capsule_last", default=None)


def last_result() -> ToolResult[Any] | None:
    """What the latest tool call of this thread or task came to; its value is None when it raised."""
    return _last.get()
