"""How long a guest is waited for that says nothing: as long as its agent answers at all, and no longer.

What is asked of it may take any time, and say nothing for as long; that its agent answers a ping meanwhile tells work
from a guest that hangs, whose QEMU stands still, or that wants its host to wait. Refuses to wait for the latter. That
it does not answer is on the log, and in the machine's status until it does again.

    patience = Patience(evidence.write)
    value = await patience.while_it_answers(channel, channel.file("stat", "/"))
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from capsem.errors import CapsemError, MachineError
from capsem.host.channel import Channel

# An agent that removes a large tree, or waits for its disk, answers after that.
LOOK_SECONDS, ANSWER_SECONDS = 15.0, 60.0
NO_ANSWER = "see capsem logs; its disk is kept: capsem stop --force, capsem start"
T = TypeVar("T")
WriteEntry = Callable[[str, dict[str, Any]], Awaitable[None]]


class Patience:
    """What is known of one machine's answering. It is asked only while somebody waits for it.

    Args:
        write: puts an entry on the machine's log.
    """

    def __init__(self, write: WriteEntry) -> None:
        self._write = write
        self._asking: asyncio.Task[None] | None = None
        self._waiting = 0
        self._since: float | None = None
        self._silent = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """That it does not answer, and for how long; None: it does, or nobody waits for it."""
        if self._since is None:
            return None
        return f"its agent has not answered for {time.monotonic() - self._since:.0f} s"

    async def while_it_answers(self, channel: Channel, work: Coroutine[Any, Any, T]) -> T:
        """What `work` comes to; it is cancelled when the agent answers nothing any more.

        Raises:
            MachineError: the agent did not answer in time.
        """
        working, silent = asyncio.create_task(work), asyncio.create_task(self.silent(channel))
        try:
            await asyncio.wait({working, silent}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise MachineError(unanswered(), next_step=NO_ANSWER)
        finally:
            for task in (working, silent):
                task.cancel()
            await asyncio.gather(working, silent, return_exceptions=True)

    async def silent(self, channel: Channel) -> None:
        """Returns when the agent does not answer; one question at a time, however many wait."""
        self._waiting += 1
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(channel))
        try:
            await self._silent.wait()
        finally:
            self._waiting -= 1
            if not self._waiting and self._since is None and self._asking is not None:
                self._asking.cancel()
                self._asking = None

    async def _ask(self, channel: Channel) -> None:
        # A channel that is over tells whoever waits on it why.
        with contextlib.suppress(CapsemError):
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                asked, thaws = time.monotonic(), channel.thaws
                try:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await channel.ping()
                except TimeoutError:
                    # What is sent to one that stands still for a copy waits until it runs on, and is asked anew then.
                    stood = channel.frozen or channel.thaws != thaws
                    if not stood and not await self._again(channel, asked):
                        return

    async def _again(self, channel: Channel, since: float) -> bool:
        """Returns once it answers after all; whether somebody waits for it then."""
        self._since = since
        self._silent.set()
        try:
            await self._write("machine.unanswered", {"reason": unanswered()})
            await channel.ping()
            seconds = int(time.monotonic() - since)
            await self._write("machine.answers", {"reason": f"after {seconds} s"})
        finally:
            self._since = None
            self._silent.clear()
        return self._waiting > 0

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)


def unanswered() -> str:
    """What is said of one that does not answer."""
    return f"the machine does not answer: nothing came within {ANSWER_SECONDS:g} s"
