"""What changes in a directory of the machine, as its agent tells it, passed on to a client until that goes.

The lines are the guest's word: who takes them treats them as hostile. Decided and recorded by the caller.

    await watch(channel, link, asked, user)
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

from capsem.errors import CapsemError, MachineError, NotFoundError
from capsem.host.channel import PATH, Channel
from capsem.host.jobs import Job
from capsem.host.link import Link
from capsem.processes.monitor.attending import KILL_SECONDS, pieces
from capsem.wire.frame import Data
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import OUTPUT, File

AGENT = "/capsem/capsem-agent"
_WORDS_LIMIT = 4096


async def watch(channel: Channel, link: Link, asked: File, user: int) -> dict[str, Any] | None:
    """Pass on what changes; returns None when the client has gone.

    Raises:
        CapsemError: there is no such directory, or the agent has stopped watching.
    """
    below = ["--below"] if asked.recursive else []
    job = await channel.exec(
        [AGENT, "watch", *below, "--", asked.path], env={"PATH": PATH}, uid=user, gid=user
    )
    passing = asyncio.create_task(_passed(link, job))
    gone = asyncio.create_task(_hung_up(link))
    words = asyncio.create_task(_words(job))
    try:
        await asyncio.wait({passing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not passing.done():
            return None
        passing.result()
        async with asyncio.timeout(KILL_SECONDS):
            ended, why = await job.wait(), await words
    except TimeoutError:
        raise MachineError(
            f"{asked.path} is not watched any more, and within {KILL_SECONDS:g} s the machine did not say why",
            next_step="see what is there: capsem exec",
        ) from None
    finally:
        for task in (passing, gone, words):
            task.cancel()
        await asyncio.gather(passing, gone, words, return_exceptions=True)
        # Whatever it still does, nobody waits for it.
        with contextlib.suppress(CapsemError):
            job.signal(signal.SIGKILL)
            job.abandon()
    said = why or (f"exit {ended.code}" if ended.code is not None else f"signal {ended.signal}")
    if "(os error 2)" in why or "(os error 20)" in why:
        raise NotFoundError(
            f"{asked.path} is no directory that can be watched: {said}", next_step="is the name right?"
        )
    raise MachineError(
        f"{asked.path} is not watched any more: {said}", next_step="see what is there: capsem exec"
    )


async def _passed(link: Link, job: Job) -> None:
    async for untrusted in pieces(job.stdout):
        await link.send(encode_frame(Data(OUTPUT, untrusted)))


async def _hung_up(link: Link) -> None:
    """Returns when the client has gone, or says something, which it has no reason to."""
    with contextlib.suppress(CapsemError):
        await link.receive()


async def _words(job: Job) -> str:
    """What it complains of."""
    said = bytearray()
    async for untrusted in pieces(job.stderr):
        said += untrusted[: max(0, _WORDS_LIMIT - len(said))]
    return said.decode(errors="replace").strip().removeprefix("capsem-agent: ")
