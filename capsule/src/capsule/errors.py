"""Every exception Capsule raises: who is at fault, what to do next, and the exit code.

A fault is an exception; a verdict (a denial, a non-zero exit) is a value and never comes from here.
What this module refuses: an error without a next step.

    try:
        parse(data, "capsule.yaml")
    except PolicyError as error:
        print(error)              # capsule.yaml:3:5: unknown key 'raed' …; did you mean 'read'?
        sys.exit(error.exit_code)
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


class Fault(enum.StrEnum):
    """Who has to act."""

    CALLER = "caller"
    POLICY = "policy"
    HOST = "host"
    CAPSULE = "capsule"


class CapsuleError(Exception):
    """The root of the tree.

    Attributes:
        fault: who has to act.
        exit_code: what a command-line verb exits with.
        next_step: one sentence, what to do now.
    """

    fault: Fault = Fault.CAPSULE
    exit_code: int = 125

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a policy, with its place (1-based line and column)."""

    file: str
    line: int
    column: int
    what: str
    expected: str = ""
    nearest: str | None = None
    next_step: str = ""

    def __str__(self) -> str:
        parts = [f"{self.file}:{self.line}:{self.column}: {self.what}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.nearest is not None:
            parts.append(f"did you mean {self.nearest!r}?")
        if self.next_step:
            parts.append(self.next_step)
        return "; ".join(parts)

    def quoting(self) -> tuple[str, list[str]]:
        """Itself, and the lines that its next step quotes below it: `  | ` stands before each of those."""
        step, *lines = self.next_step.split("\n")
        if not all(line.startswith("  | ") for line in lines):
            return str(self), []
        return str(replace(self, next_step=step)), lines


class PolicyError(CapsuleError):
    """The policy cannot be used, so nothing runs.

    Attributes:
        problems: everything found wrong, in the order of the file; never empty.
    """

    fault = Fault.POLICY
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        count = len(self.problems)
        super().__init__(
            "\n".join(str(problem) for problem in self.problems),
            next_step=f"correct {'this' if count == 1 else f'these {count} places'} and run it again",
        )

    def __str__(self) -> str:
        return self.message


class PlanError(CapsuleError):
    """A plan is not of the documented form."""

    exit_code = 125


class ReportError(CapsuleError):
    """A run's report is not of the documented form."""

    exit_code = 125


class UsageError(CapsuleError):
    """The command line does not make sense as a whole."""

    fault = Fault.CALLER
    exit_code = 2


def nearest_name(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate a person most likely meant, or None when nothing is close."""
    import difflib  # here, because every worker imports this module and none needs that

    found = difflib.get_close_matches(name[:64].lower(), list(candidates), n=1, cutoff=0.6)
    return found[0] if found else None


class SandboxError(CapsuleError):
    """The sandbox could not be started, or is gone. Nothing ran, or what ran was killed."""

    fault = Fault.HOST


class CommandFailed(CapsuleError):  # noqa: N818 - the name a caller of check=True reads in a traceback
    """`check=True`, and the command did not end with 0.

    Attributes:
        result: the whole `RunResult`.
    """

    fault = Fault.CALLER
    exit_code = 1

    def __init__(self, message: str, *, result: object, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.result = result


class ArgumentError(CapsuleError, ValueError):
    """An argument of the SDK's that cannot be what is meant; nothing was started."""

    fault = Fault.CALLER


class NotCallableInsideError(CapsuleError, TypeError):
    """A function that cannot be found again inside a sandbox, or not called from where the call was made."""

    fault = Fault.CALLER

    def __init__(
        self, message: str, *, next_step: str = "define it at the top of a module that has a file"
    ) -> None:
        super().__init__(message, next_step=next_step)


class CallTimeoutError(CapsuleError, TimeoutError):
    """A call outlived its time; its process and whatever that had started were killed."""

    fault = Fault.CALLER


class ResultError(CapsuleError, ValueError):
    """A result may not cross: of the wrong type, or too large."""

    fault = Fault.CALLER


class WorkerError(CapsuleError):
    """The process that served a call died, or answered with something that is not an answer."""

    fault = Fault.CALLER

    def __init__(
        self, message: str, *, next_step: str = "read what it wrote to standard error, and the log"
    ) -> None:
        super().__init__(message, next_step=next_step)


class ToolError(CapsuleError):
    """An exception of a type that only the tool knows.

    Attributes:
        type_name: the type, with its module when it is not a built-in one.
        remote: the traceback inside the sandbox, as text.
    """

    fault = Fault.CALLER

    def __init__(self, message: str, *, type_name: str, remote: str) -> None:
        super().__init__(message, next_step="")
        self.type_name = type_name
        self.remote = remote

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


class RemoteTraceback(Exception):  # noqa: N818 - never raised: the cause of what is
    """The traceback inside the sandbox, shown as the cause of the exception it belongs to."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"
