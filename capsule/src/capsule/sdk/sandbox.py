"""`capsule.Sandbox`: a warm sandbox of one's own, for programs and functions, as a context manager.

    with capsule.Sandbox(policy="capsule.yaml") as box:
        box.run(["git", "status"]).text
        box.call(statistics.mean, [1, 2, 3]).value

    async with capsule.Sandbox() as box:
        await box.arun(["git", "status"])

Programs start in a tenth of the time `capsule.run` needs, and share the sandbox: its processes, its private
directories and its one run on the log. Calls are separate processes. Not for two parties that must not meet.
Refuses to be used after `close`, and by a forked copy of the process that made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar, overload

from capsule.errors import CallTimeoutError, CommandFailed, ResultError, ToolError
from capsule.sdk.asked import argv_of, bytes_of, place_of, seconds_of, variables_of
from capsule.sdk.calls import ARGUMENTS_LIMIT, RESULT_LIMIT, Options, arguments, conclude, question
from capsule.sdk.locate import Target
from capsule.sdk.pool import POOL, Key, start
from capsule.sdk.result import Denial, Exit, RunResult, ToolResult, Usage
from capsule.sdk.runner import Command, FilePath, absolute, policy_reference
from capsule.sdk.session import Answer, Session
from capsule.sdk.values import UnfitValueError, encode

P = ParamSpec("P")
R = TypeVar("R")
OUTPUT_LIMIT = 16 << 20
"""Bytes of output a program may write, unless the caller says otherwise."""


class Sandbox:
    """See the module.

    Args:
        policy: a policy file or preset; None for the nearest `capsule.yaml`, else the preset `workspace`.
        workspace: the working directory inside; None for this program's.
        log: the audit log; None for the default.
        timeout: seconds until a call or program is killed, unless it says otherwise.
    """

    def __init__(
        self,
        *,
        policy: FilePath | None = None,
        workspace: FilePath | None = None,
        log: FilePath | None = None,
        timeout: float | None = None,
    ) -> None:
        self._key = Key(
            policy_reference(policy),
            None,
            absolute("." if workspace is None else workspace, "workspace"),
            None if log is None else absolute(log, "log"),
        )
        self._timeout = seconds_of(timeout)
        self._session: Session | None = None
        self._result: RunResult | None = None

    def open(self) -> Sandbox:
        """Start it.

        Raises:
            SandboxError: it cannot be started.
        """
        if self._session is None:
            self._session = start(self._key, POOL.tools(self._key.policy, self._key.cwd))
        return self

    def close(self) -> RunResult | None:
        """End it and everything in it; what the whole of it came to. Closing twice is closing once."""
        if self._session is not None:
            self._session.close()
            if self._session.report and self._result is None:
                self._result = RunResult.from_report(self._session.report)
        return self._result

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> ToolResult[R]:
        """Run a module-level function inside; its value with what the security layer saw.

        Raises:
            NotCallableInsideError, UnfitValueError, CallTimeoutError, or what the function raised.
        """
        target, options, body = self._ask(function, args, kwargs)
        session = self._opened()
        session.load(target)
        return conclude(session.exchange(question(target, options), body, options.limit), options)

    @overload
    async def acall(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> ToolResult[R]: ...

    @overload
    async def acall(
        self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> ToolResult[R]: ...

    async def acall(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ToolResult[Any]:
        """`call` for coroutines; the function itself may be a coroutine function or not."""
        target, options, body = self._ask(function, args, kwargs)
        session = self._opened()
        if not session.loaded(target):
            await asyncio.to_thread(session.load, target)
        return conclude(await session.exchange_async(question(target, options), body, options.limit), options)

    def run(
        self,
        cmd: Command,
        *,
        cwd: FilePath | None = None,
        env: Mapping[str, str] | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as for `capsule.run`
        timeout: float | None = None,
        check: bool = False,
        output_limit: int = OUTPUT_LIMIT,
    ) -> RunResult:
        """Run a program inside; the arguments are those of `capsule.run`.

        Raises:
            ArgumentError: an argument cannot be what is meant.
            FileNotFoundError, PermissionError: the program cannot be started.
            ResultError: it wrote more than `output_limit` bytes; it was killed.
            CommandFailed: with `check`, for any end but exit 0.
        """
        argv, envelope, body, options = self._program(cmd, cwd, env, input, timeout, output_limit)
        return _ended(argv, self._opened().exchange(envelope, body, output_limit), options, check=check)

    async def arun(
        self,
        cmd: Command,
        *,
        cwd: FilePath | None = None,
        env: Mapping[str, str] | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as for `capsule.run`
        timeout: float | None = None,
        check: bool = False,
        output_limit: int = OUTPUT_LIMIT,
    ) -> RunResult:
        """`run` for coroutines."""
        argv, envelope, body, options = self._program(cmd, cwd, env, input, timeout, output_limit)
        answer = await self._opened().exchange_async(envelope, body, output_limit)
        return _ended(argv, answer, options, check=check)

    def _opened(self) -> Session:
        return self.open()._session  # type: ignore[return-value]  # open() has set it

    def _ask(
        self, function: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[Target, Options, bytes]:
        target = Target.of(getattr(function, "__capsule_function__", function))
        return target, Options(target.qualname, self._timeout, RESULT_LIMIT), arguments(args, kwargs)

    def _program(  # noqa: PLR0917 - the two callers pass their own arguments on
        self,
        cmd: Command,
        cwd: FilePath | None,
        env: Mapping[str, str] | None,
        data: bytes | str | None,
        timeout: float | None,
        limit: int,
    ) -> tuple[list[str], dict[str, object], bytes, Options]:
        argv = argv_of(cmd)
        own = seconds_of(timeout)
        options = Options("run", own if own is not None else self._timeout, limit, "output_limit")
        body = encode(
            {
                "argv": argv,
                "env": None if env is None else variables_of(env),
                "cwd": None if cwd is None else str(Path(self._key.cwd, place_of(cwd, "cwd"))),
                "data": bytes_of(data) or b"",
            },
            "command",
        )
        if len(body) > ARGUMENTS_LIMIT:
            raise UnfitValueError(
                f"the command with its input is {len(body):,} bytes as text, where at most {ARGUMENTS_LIMIT:,} cross "
                "at once: put the input into a file that the policy lets the program read"
            )
        milliseconds = None if options.timeout is None else max(1, round(options.timeout * 1000))
        return argv, {"kind": "run", "timeout_ms": milliseconds, "limit": limit}, body, options


def _ended(argv: list[str], answer: Answer, options: Options, *, check: bool) -> RunResult:
    """A program's end as a `RunResult`."""
    # Output grows by a third in its text form.
    roomy = Options(options.name, options.timeout, min(2 * options.limit + 4096, 48 << 20))
    try:
        found: ToolResult[Any] = conclude(answer, roomy)
    except CallTimeoutError:
        end = Exit(124, "timeout")
        denials = tuple(Denial.from_json(denial) for denial in answer.envelope["denials"])
        result = RunResult(argv, end, denials=denials, usage=Usage(wall_ms=answer.envelope["us"] // 1000))
    except ToolError as error:
        if error.type_name == "capsule.sdk.program.OutputLimitError":
            raise ResultError(str(error.message), next_step="raise output_limit") from None
        raise
    else:
        value = found.value
        cause = "exited" if value["signal"] is None else "signalled"
        result = RunResult(
            argv,
            Exit(value["code"], cause, value["signal"]),
            value["stdout"],
            value["stderr"],
            denials=found.denials,
            denials_total=found.denials_total,
            usage=Usage(wall_ms=found.microseconds // 1000),
        )
    if check and not result.ok:
        raise CommandFailed(str(result), result=result, next_step="see .result for its output")
    return result
