"""`@capsule.tool`: a function whose body runs inside a sandbox, one process per call.

    @capsule.tool(timeout=5)
    def word_count(path: str) -> int:
        return len(open(path).read().split())

    word_count("notes.txt")               # runs inside; returns 812, or raises what the body raised
    word_count.call("notes.txt").denials  # what the sandbox refused meanwhile

The function is found again inside by module and name, so it has to be at the top of a module with a file.
Arguments and results are plain data (`capsule.sdk.values`). Inside a sandbox a tool of the same policy is a
plain function call; one of another policy is refused, because no sandbox is entered from within another.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from capsule.errors import NotCallableInsideError
from capsule.sdk import inside
from capsule.sdk.result import ToolResult

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
_DEFAULT_LIMIT: Final = 1 << 20


class Tool(Protocol, Generic[P, R_co]):
    """What `@capsule.tool` makes of a function: it is called as before."""

    __name__: str
    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the body inside; its value."""
        ...

    def call(self, *args: P.args, **kwargs: P.kwargs) -> ToolResult[R_co]:
        """Run the body inside; its value with what the security layer saw."""
        ...


class AsyncTool(Protocol, Generic[P, R_co]):
    """What `@capsule.tool` makes of a coroutine function: it is awaited as before."""

    __name__: str
    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Run the body inside; its value."""
        ...

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, ToolResult[R_co]]:
        """Run the body inside; its value with what the security layer saw."""
        ...


class Decorator(Protocol):
    """`@capsule.tool(...)`, waiting for its function."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is the narrower case, and comes first
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTool[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(  # type: ignore[overload-overlap]  # a coroutine function is the narrower case, and comes first
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTool[P, R]: ...


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    policy: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    name: str | None = None,
    result_limit: int = _DEFAULT_LIMIT,
) -> Decorator: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    policy: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    name: str | None = None,
    result_limit: int = _DEFAULT_LIMIT,
) -> Any:
    """Make a function's body run inside a sandbox.

    Args:
        function: the function, when used as `@capsule.tool` without parentheses.
        policy: a policy file or preset; None for the nearest `capsule.yaml`, else the preset `workspace`.
        timeout: seconds until a call is killed, with everything it started; None for as long as the policy's
            `limits: {wall_time: …}` lets a call take, and where it says nothing, until the body returns.
        name: what the log and `tools:` in the policy call it; the function's name by default.
        result_limit: bytes a result may have in its text form.

    Raises:
        NotCallableInsideError: the function is a lambda, or is defined inside another function.
    """
    if function is None:
        return functools.partial(tool, policy=policy, timeout=timeout, name=name, result_limit=result_limit)
    if "<" in function.__qualname__:
        raise NotCallableInsideError(f"{function.__qualname__} is defined inside a function or is a lambda")
    called = name or function.__name__
    if inside.here is not None:
        return _within(function, None if policy is None else os.fspath(policy), called)
    from capsule.sdk.outside import Caller

    caller = Caller(function, called, policy, timeout, result_limit)
    call: Callable[..., Any]
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return (await caller.call_async(args, kwargs)).value

        async def call_async(*args: Any, **kwargs: Any) -> ToolResult[Any]:
            return await caller.call_async(args, kwargs)

        wrapper: Any = awaited
        call = call_async
    else:

        @functools.wraps(function)
        def direct(*args: Any, **kwargs: Any) -> Any:
            return caller.call(args, kwargs).value

        def call_sync(*args: Any, **kwargs: Any) -> ToolResult[Any]:
            return caller.call(args, kwargs)

        wrapper = direct
        call = call_sync
    wrapper.call = call
    wrapper.__capsule_function__ = function
    return wrapper


def _within(function: Callable[..., Any], policy: str | None, name: str) -> Any:
    """The same decorator inside a sandbox: the function itself, where its policy is the one in force."""

    def check() -> None:
        place = inside.here
        if inside.reading and not inside.calling:
            raise inside.ReachedCall
        if place is None or not inside.calling:
            raise NotCallableInsideError(
                f"{name} was called while its module was being imported inside the sandbox",
                next_step='put the call under `if __name__ == "__main__":`',
            )
        if not place.serves(policy, name):
            raise NotCallableInsideError(
                f"{name} has another policy than the sandbox it was called from",
                next_step="call it from outside, or give both tools the same policy",
            )

    call: Callable[..., Any]
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            check()
            return await cast(Awaitable[Any], function(*args, **kwargs))

        async def call_async(*args: Any, **kwargs: Any) -> ToolResult[Any]:
            return ToolResult(await awaited(*args, **kwargs))

        wrapper: Any = awaited
        call = call_async
    else:

        @functools.wraps(function)
        def direct(*args: Any, **kwargs: Any) -> Any:
            check()
            return function(*args, **kwargs)

        def call_sync(*args: Any, **kwargs: Any) -> ToolResult[Any]:
            return ToolResult(direct(*args, **kwargs))

        wrapper = direct
        call = call_sync
    wrapper.call = call
    wrapper.__capsule_function__ = function
    return wrapper
