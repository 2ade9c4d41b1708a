"""A service of an older version leaves for one of ours: it is asked to, and finishes what it is at; machines run on.

Refuses to end one by force, and to wait for ever: then it says which is which, and what a person can do.

    await until_left(pid, theirs, ours)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from capsem.errors import VersionError
from capsem.host.ending import ended
from capsem.wire.versions import OURS, Version

LEAVE_SECONDS = 60.0
_MACHINES = "machines run on, and the next service takes them over"


async def until_left(pid: int, theirs: Version | None) -> None:
    """Ask a service to leave; returns when it has.

    Args:
        pid: its process, as the kernel told it.
        theirs: what it says it is; None: nothing.

    Raises:
        VersionError: it is still at work after its time.
    """
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it has
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        async with asyncio.timeout(LEAVE_SECONDS):
            await ended(process)
    except ProcessLookupError:
        return
    except TimeoutError:
        raise VersionError(
            f"the service that runs (process {pid}) is {named(theirs)}, older than this {OURS}, and still at work",
            next_step=f"try again when it is done; or end it: kill -9 {pid}; {_MACHINES}",
        ) from None
    finally:
        os.close(process)


def ask_to_leave(pid: int) -> None:
    """The same without waiting: whoever asks next gets one of ours."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
        finally:
            os.close(process)


def refused(pid: int, theirs: Version) -> VersionError:
    """For a service that is newer than this client."""
    return VersionError(
        f"the service that runs (process {pid}) is {theirs}, newer than this {OURS}",
        next_step=f"use the newer capsem; or end that service: kill {pid}; {_MACHINES}",
    )


def named(version: Version | None) -> str:
    """A version for a person."""
    return "a capsem that does not tell its version" if version is None else str(version)
