"""One function call across the boundary: arguments out, value or exception back. For tools and for `Sandbox`.

Refuses values that are not plain data, both ways, and never decides anything by the text of a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from capsule.errors import ArgumentError, CallTimeoutError, ResultError, SandboxError, WorkerError
from capsule.sdk import raised
from capsule.sdk.asked import seconds_of
from capsule.sdk.locate import Target
from capsule.sdk.result import Denial, ToolResult, _last
from capsule.sdk.session import Answer
from capsule.sdk.values import UnfitValueError, decode, encode

RESULT_LIMIT: Final = 1 << 20
"""Bytes a result may have in its text form, unless the tool says otherwise."""
_MAX_RESULT: Final = 48 << 20
ARGUMENTS_LIMIT: Final = 15 << 20
"""Bytes the arguments of one call may have in their text form; the supervisor takes 16 MiB with the envelope."""
_NOTED: Final = 3


@dataclass(frozen=True, slots=True)
class Options:
    """How calls of one tool are made.

    Attributes:
        name: what the log and the policy call it.
        timeout: seconds until a call is killed, or None.
        limit: bytes its result may have.
        limited: what the caller knows that limit by.
    """

    name: str
    timeout: float | None
    limit: int = RESULT_LIMIT
    limited: str = "result_limit"

    def __post_init__(self) -> None:
        seconds_of(self.timeout)
        if not isinstance(self.limit, int) or not 0 < self.limit <= _MAX_RESULT:
            raise ArgumentError(
                f"{self.limited} is {self.limit!r}; it must be between 1 and {_MAX_RESULT} bytes",
                next_step="write what is larger to a file",
            )


def question(target: Target, options: Options) -> dict[str, object]:
    """The envelope of a call; the same for every call of a tool."""
    return {
        "kind": "call",
        "tool": options.name,
        "module": target.module,
        "qualname": target.qualname,
        "awaits": target.awaits,
        "timeout_ms": None if options.timeout is None else max(1, round(options.timeout * 1000)),
        "limit": options.limit,
    }


def arguments(args: Sequence[object], kwargs: Mapping[str, object]) -> bytes:
    """The text form of a call's arguments.

    Raises:
        UnfitValueError: an argument cannot cross (the message names which), or they are too large together.
    """
    try:
        text = encode([list(args), dict(kwargs)], "arguments")
    except UnfitValueError as error:
        place = str(error).removeprefix("arguments[0]").removeprefix("arguments[1]")
        raise UnfitValueError(f"argument {place}") from None
    if len(text) > ARGUMENTS_LIMIT:
        raise UnfitValueError(
            f"the arguments are {len(text):,} bytes as text, where at most {ARGUMENTS_LIMIT:,} cross at once: "
            "write them to a file that the policy lets the tool read, and pass its path"
        )
    return text


def conclude(answer: Answer, options: Options) -> ToolResult[Any]:
    """The result of a call, or the exception it ended in.

    Raises:
        CallTimeoutError, ResultError, WorkerError, SandboxError, or what the function raised.
    """
    envelope = answer.envelope
    denials = tuple(Denial.from_json(denial) for denial in envelope["denials"])
    outcome = envelope["outcome"]
    value: object = None
    error: Exception | None = None
    if outcome == "returned":
        try:
            if len(answer.untrusted_body) > options.limit:
                raise UnfitValueError(f"result: {len(answer.untrusted_body)} bytes")
            value = decode(answer.untrusted_body, "result")
        except UnfitValueError as fault:
            error = WorkerError(f"{options.name} answered with something that is not a result: {fault}")
    else:
        error = _error(outcome, answer, options)
    first, last = envelope["log"]
    result = ToolResult(value, denials, envelope["denials_total"], envelope["us"], (first, last))
    _last.set(result)
    if error is not None:
        for denial in denials[:_NOTED]:
            error.add_note(f"capsule: {denial}")
        error.denials = denials  # type: ignore[attr-defined]  # for whoever catches it; documented in decorator.md
        raise error
    return result


def _error(outcome: str, answer: Answer, options: Options) -> Exception:
    name = options.name
    if outcome == "raised":
        return raised.rebuild(answer.untrusted_body)
    if outcome == "timeout":
        seconds = answer.envelope["timeout_ms"] / 1000
        own = options.timeout is not None and options.timeout <= seconds
        return CallTimeoutError(
            f"{name} did not finish within {seconds:g} s and was killed",
            next_step=f"give it {'a longer timeout' if own else 'more wall_time in the policy'}, or less to do",
        )
    if outcome == "unfit":
        return ResultError(f"{name}: {_said(answer)}", next_step="return plain data, or raise result_limit")
    if outcome == "limit":
        return ResultError(
            f"{name}: its result is larger than {options.limit} bytes",
            next_step="return less, or raise result_limit",
        )
    if outcome == "died":
        status = answer.envelope.get("status")
        how = (
            f"was killed by signal {-status}"
            if isinstance(status, int) and status < 0
            else f"exited with {status}"
        )
        return WorkerError(f"the process of {name} {how} before it answered")
    if outcome == "protocol":
        return WorkerError(f"the process of {name} sent something that is not an answer")
    reason = answer.envelope.get("reason") or outcome
    return SandboxError(f"{name} was not carried out: {reason}", next_step="read the log, and call again")


def _said(answer: Answer) -> str:
    try:
        untrusted = decode(answer.untrusted_body)
    except UnfitValueError:
        untrusted = None
    return untrusted[:1000] if isinstance(untrusted, str) else "its result cannot cross"
