"""The outer half of a tool: find its warm sandbox, make the call, conclude. Never loaded inside a sandbox."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from capsule.sdk.calls import Options, arguments, conclude, question
from capsule.sdk.locate import Target
from capsule.sdk.pool import POOL
from capsule.sdk.result import ToolResult
from capsule.sdk.runner import policy_reference
from capsule.sdk.session import Session


class Caller:
    """One tool, called any number of times from any thread or event loop."""

    def __init__(
        self,
        function: Callable[..., object],
        name: str,
        policy: str | os.PathLike[str] | None,
        timeout: float | None,
        limit: int,
    ) -> None:
        self.options = Options(name, timeout, limit)
        self.policy = policy_reference(policy)
        self._function = function
        self._target: Target | None = None
        self._question: dict[str, object] = {}

    @property
    def target(self) -> Target:
        """Where the function is; found at the first call, when its module is complete."""
        if self._target is None:
            target = Target.of(self._function)
            self._question = question(target, self.options)
            self._target = target
        return self._target

    def call(self, args: Sequence[object], kwargs: Mapping[str, object]) -> ToolResult[Any]:
        """Make one call and wait for it."""
        target = self.target
        body = arguments(args, kwargs)
        session = self._session()
        session.load(target)
        return conclude(session.exchange(self._question, body, self.options.limit), self.options)

    async def call_async(self, args: Sequence[object], kwargs: Mapping[str, object]) -> ToolResult[Any]:
        """The same without blocking the running loop; the first call prepares the sandbox in a thread."""
        target = self.target
        body = arguments(args, kwargs)
        key = POOL.key(self.policy, self.options.name)
        session = POOL.ready(key)
        if session is None or not session.loaded(target):
            session = await asyncio.to_thread(self._prepared, target)
        answer = await session.exchange_async(self._question, body, self.options.limit)
        return conclude(answer, self.options)

    def _session(self) -> Session:
        return POOL.session(POOL.key(self.policy, self.options.name))

    def _prepared(self, target: Target) -> Session:
        session = self._session()
        session.load(target)
        return session
