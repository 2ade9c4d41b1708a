"""The end of another process, waited for by a descriptor of it: its number may be another's by then.

process = os.pidfd_open(pid)
await ended(process)
"""

from __future__ import annotations

import asyncio


async def ended(process: int) -> None:
    """Returns when the process of a descriptor has ended.

    Args:
        process: of pidfd_open(2); it stays open.
    """
    gone, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(process, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(process)
