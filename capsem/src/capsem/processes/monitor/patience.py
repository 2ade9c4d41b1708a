"""How long a guest is waited for that says nothing: as long as its agent answers at all, and no longer.

What is asked of it may take any time; that its agent answers a ping meanwhile tells work from a guest that hangs, whose
QEMU stands still, or that wants its host to wait. Refuses to wait for the latter.

    value = await while_it_answers(channel, channel.file("stat", "/"))
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from capsem.errors import CapsemError, MachineError
from capsem.host.channel import Channel

# An agent that removes a large tree, or waits for its disk, answers after that.
LOOK_SECONDS, ANSWER_SECONDS = 15.0, 60.0
NO_ANSWER = "see capsem logs; its disk is kept: capsem stop --force, capsem start"
T = TypeVar("T")


async def while_it_answers(channel: Channel, work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to; it is cancelled when the agent answers nothing any more.

    Raises:
        MachineError: the agent did not answer in time.
    """
    working, silent = asyncio.create_task(work), asyncio.create_task(_silent(channel))
    try:
        await asyncio.wait({working, silent}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise MachineError(
            f"the machine does not answer: nothing came within {ANSWER_SECONDS:g} s", next_step=NO_ANSWER
        )
    finally:
        for task in (working, silent):
            task.cancel()
        await asyncio.gather(working, silent, return_exceptions=True)


async def _silent(channel: Channel) -> None:
    """Returns when the agent does not answer."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await channel.ping()
        except TimeoutError:
            return
        except CapsemError:
            # The channel is over, and what waits on it is told why.
            await asyncio.Event().wait()
