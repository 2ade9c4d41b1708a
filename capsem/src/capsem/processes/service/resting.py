"""uvicorn's server that sleeps while nobody asks: it waits for its end, and does not look for it ten times a second.

Refuses nothing. Its answers have no date, which it would have to keep up; who asks is on this host, and has a clock.

    server = Resting(config)
    await server.serve(sockets=[listener])      # until SIGTERM, SIGINT or `leave`
"""

from __future__ import annotations

import asyncio
from types import FrameType

import uvicorn


class Resting(uvicorn.Server):
    """The server of one event loop, in which it is made."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def leave(self) -> None:
        """End once what is asked for has been answered."""
        self.should_exit = True
        self._leaving.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As `leave`, from a signal's handler: the loop sleeps, and has to be woken."""
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._leaving.set)

    async def main_loop(self) -> None:
        """Returns when it is to end."""
        await self.on_tick(0)
        await self._leaving.wait()
