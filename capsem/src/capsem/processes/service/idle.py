"""The end of a service that nobody asks: machines run on without it, and the next client starts another one.

Refuses to end while an answer is under way.

    idle = Idle(build(registry), time.monotonic)
    await until_idle(idle, 900.0)
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, MutableMapping
from typing import Any

from capsem.errors import UsageError
from capsem.host.settings import load

VARIABLE = "CAPSEM_SERVICE_IDLE"
_Receive = Callable[[], Any]
_Send = Callable[[MutableMapping[str, Any]], Any]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Any]


def limit() -> float:
    """Seconds without a question after which the service ends: `CAPSEM_SERVICE_IDLE`, else the setting `service.idle`.

    Where the organisation's file has that setting, it holds whatever the variable says.

    Raises:
        UsageError: it says no number of at least 1.
    """
    text = os.environ.get(VARIABLE)
    held = load().of("service.idle")
    if not text or held.locked:
        return float(held.value)
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{VARIABLE} is {text!r}, no number of seconds", next_step="set it to 1 or more")
    return float(text)


class Idle:
    """An application that knows how long nobody has asked it anything.

    Args:
        app: what answers.
        clock: seconds that only go up.
    """

    def __init__(self, app: _App, clock: Callable[[], float]) -> None:
        self._app = app
        self._clock = clock
        self._inside = 0
        self._since = clock()

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer, and count the time from then on."""
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
            self._since = self._clock()

    @property
    def seconds(self) -> float:
        """Since the last answer; 0 while one is under way."""
        return 0.0 if self._inside else self._clock() - self._since


async def until_idle(idle: Idle, seconds: float) -> None:
    """Returns when nobody has asked for that long."""
    while (left := seconds - idle.seconds) > 0:
        await asyncio.sleep(left)
