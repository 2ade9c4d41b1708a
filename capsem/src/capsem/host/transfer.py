"""A whole tree over a monitor's socket, either way, as an archive: `pack` brings one, `unpack` takes one.

Refuses what the machine's own archiver says went wrong, in its words. What an archive holds is the caller's to judge
(`capsem.host.extract`, `capsem.host.workspace`).

    await fetch(socket, "/workspace", take)          # take(data) for every piece
    await send(socket, "/workspace", packing.pieces(), told)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from capsem.errors import CapsemError, MachineError
from capsem.host import shortage
from capsem.host.operation import Output, begin, write_file
from capsem.wire.monitor import File, Result

Told = Callable[[int], None]
"""Told how many bytes have gone over."""


async def fetch(
    socket: Path,
    path: str,
    take: Callable[[bytes], None],
    told: Told = lambda _: None,
    *,
    user: int | None = None,
) -> None:
    """Bring a directory of the machine.

    Args:
        socket: the monitor's.
        path: of the directory, absolute.
        take: is given the archive, piece by piece, on a thread of its own.
        told: how far it is.
        user: whose files they are.

    Raises:
        CapsemError: the machine could not pack it, or `take` refused it.
    """
    operation = await begin(socket, File("pack", path, user=user))
    done = 0
    try:
        held: list[bytes] = []
        waiting = 0
        async for said in operation:
            if isinstance(said, Output):
                held.append(said.content)
                waiting += len(said.content)
                done += len(said.content)
                if waiting >= 1 << 20:
                    # A thread a megabyte: what is taken goes to a disk, and the loop reads on meanwhile.
                    await asyncio.to_thread(_all, take, held)
                    held, waiting = [], 0
                    told(done)
            elif isinstance(said, Result):
                await asyncio.to_thread(_all, take, held)
                told(done)
                return
        raise MachineError("the monitor said nothing of the archive's end", next_step="see capsem list")
    finally:
        await operation.close()


def _all(take: Callable[[bytes], None], pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            take(piece)
    except OSError as error:
        raise _disk(error) from error


def _next(pieces: Iterator[bytes]) -> bytes | None:
    try:
        return next(pieces, None)
    except OSError as error:
        raise _disk(error) from error


def _disk(error: OSError) -> CapsemError:
    """What this host's disk could not do: it is full, or the like."""
    step = shortage.step(error, otherwise="see that there is room and that it can be read and written")
    return CapsemError(
        f"the copy broke off on this host: {shortage.why(error)}",
        next_step=f"{step}; nothing half-done was kept",
    )


async def send(
    socket: Path,
    path: str,
    pieces: Iterator[bytes],
    told: Told = lambda _: None,
    *,
    user: int | None = None,
    empty: bool = False,
) -> None:
    """Put an archive into a directory of the machine, which is made when it is not there.

    Args:
        socket: the monitor's.
        path: of the directory, absolute.
        pieces: of the archive; taken on a thread of its own.
        told: how far it is.
        user: whose files they become.
        empty: remove what is in the directory first.

    Raises:
        CapsemError: the machine could not unpack it, or `pieces` raised.
    """

    async def flowing() -> AsyncIterator[bytes]:
        done = 0
        while (piece := await asyncio.to_thread(_next, pieces)) is not None:
            yield piece
            done += len(piece)
            told(done)

    await write_file(socket, File("unpack", path, recursive=empty, user=user), flowing())
