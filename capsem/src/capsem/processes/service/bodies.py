"""What a request may bring: its body has a limit, by what it says and by what comes.

Refuses with 413 what says that it is larger, and hangs up on what comes to more without having said so.

    app = Bounded(build(registry))
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capsem.errors import UsageError
from capsem.processes.service.faults import answer

LIMIT = 16 << 20
"""Bytes; a machine with a policy, its rules and their sources is far below."""


class Bounded:
    """An application whose requests have a limit."""

    def __init__(self, app: ASGIApp, limit: int = LIMIT) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, as far as it may go."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not said.isdigit() or int(said) > self._limit:
            error = UsageError(f"a request of more than {self._limit} bytes", next_step="see /openapi.json")
            await answer(error, 413, close=True)(scope, receive, send)
            return
        come = 0

        async def bounded() -> Message:
            nonlocal come
            message = await receive()
            come += len(message.get("body", b""))
            return message if come <= self._limit else {"type": "http.disconnect"}

        await self._app(scope, bounded, send)
