"""Changes in a directory of a machine, from Python. Names are those of E2B's SDK.

What comes is the guest's word, read a line at a time; what is no such line ends the watch. Refuses to hold more than
`EVENTS` changes that nobody takes: from then on the guest waits, and says how much it lost.

    handle = await box.files.watch_dir("/workspace", recursive=True)
    for event in await handle.get_new_events(): ...
    await handle.stop()
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from capsem.errors import CapsemError, MachineError, UsageError
from capsem.host.operation import Operation, Output, begin
from capsem.sdk.loop import LOOP
from capsem.wire.monitor import File

EVENTS = 10_000
_LINE_LIMIT = 64 << 10
# A guest of the form has no longer one, and ten thousand changes are held.
_PATH_BYTES = 4095


class FilesystemEventType(enum.StrEnum):
    """What happened to a name. `LOST`: more happened than is told, so look at the directory again."""

    CREATE = "create"
    WRITE = "write"
    REMOVE = "remove"
    RENAME = "rename"
    CHMOD = "chmod"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class FilesystemEvent:
    """A change, as the guest says.

    Attributes:
        name: of what, from the directory on; of a rename its new name; empty of `LOST`.
        type: what happened.
        source: of a rename: the name before.
        count: of `LOST`: how many changes, or directories, are not told of.
    """

    name: str
    type: FilesystemEventType
    source: str | None = None
    count: int = 1


OnEvent = Callable[[FilesystemEvent], object]
OnExit = Callable[[Exception | None], object]
_TYPES = {
    "create": FilesystemEventType.CREATE, "write": FilesystemEventType.WRITE, "remove": FilesystemEventType.REMOVE,
    "rename": FilesystemEventType.RENAME, "attributes": FilesystemEventType.CHMOD,
}  # fmt: skip


def event_of(untrusted_line: bytes, root: str) -> FilesystemEvent:
    """What a line of the guest tells.

    Raises:
        MachineError: it is none.
    """
    try:
        said = json.loads(untrusted_line)
        for word in ("lost", "unwatched"):
            if word in said:
                return FilesystemEvent("", FilesystemEventType.LOST, count=int(said[word]))
        source = said["from"]
        return FilesystemEvent(
            _below(root, said["path"]), _TYPES[said["what"]], None if source is None else _below(root, source)
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _malformed(untrusted_line) from None


def root_of(untrusted_line: bytes) -> str:
    """The directory that is watched, as the guest's first line has it.

    Raises:
        MachineError: it has none.
    """
    try:
        return str(json.loads(untrusted_line)["watching"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _malformed(untrusted_line) from None


def _below(root: str, path: str) -> str:
    if len(path.encode("utf-8", "surrogatepass")) > _PATH_BYTES:
        raise ValueError("no path is that long")
    return path.removeprefix(root.rstrip("/")).removeprefix("/")


def _malformed(untrusted_line: bytes) -> MachineError:
    return MachineError(
        f"the machine told of a change what is none: {untrusted_line[:80]!r}", next_step="watch it again"
    )


async def _lines(operation: Operation) -> AsyncGenerator[bytes]:
    rest = b""
    async for said in operation:
        if not isinstance(said, Output):
            continue
        *whole, rest = (rest + said.content).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > _LINE_LIMIT:
            raise _malformed(rest)


class AsyncWatchHandle:
    """A directory that is watched."""

    def __init__(self, operation: Operation, on_event: OnEvent | None, on_exit: OnExit | None) -> None:
        self._operation = operation
        self._lines = _lines(operation)
        self._tell, self._tell_end = on_event, on_exit
        self._events: asyncio.Queue[FilesystemEvent] = asyncio.Queue(EVENTS)
        self._root = ""
        self._error: Exception | None = None
        self._reading: asyncio.Task[None] | None = None

    async def begun(self) -> None:
        """Returns when what happens from now on is told.

        Raises:
            CapsemError: it cannot be watched.
        """
        try:
            first = await anext(self._lines, None)
            if first is None:
                raise MachineError("the machine does not say that it watches", next_step="see capsem list")
            self._root = root_of(first)
        except BaseException:
            await self._operation.close()
            raise
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for line in self._lines:
                event = event_of(line, self._root)
                if self._tell is None:
                    await self._events.put(event)
                else:
                    self._tell(event)
            self._error = MachineError("the machine watches no more", next_step="see capsem list")
        except Exception as error:  # noqa: BLE001 - also a callback's: whoever asks next is told
            self._error = error
        finally:
            await self._operation.close()
            if self._tell_end is not None:
                self._tell_end(self._error)

    async def get_new_events(self) -> list[FilesystemEvent]:
        """What has come since it was asked last; it does not wait.

        Raises:
            UsageError: `on_event` is told of it.
            CapsemError: nothing more comes, for this reason; after what came before was taken.
        """
        if self._tell is not None:
            raise UsageError(
                "on_event is told what changes", next_step="watch without on_event to ask for it"
            )
        found = []
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                found.append(self._events.get_nowait())
        if not found and self._error is not None:
            raise self._error
        return found

    async def stop(self) -> None:
        """Watch no more."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, CapsemError):
                await self._reading
        # One that was stopped before its first turn has read nothing, and let go of nothing.
        await self._operation.close()


async def watch(
    socket: Path, asked: File, *, on_event: OnEvent | None = None, on_exit: OnExit | None = None
) -> AsyncWatchHandle:
    """Watch a directory; returns when it is watched. Arguments as of `Files.watch_dir`.

    Raises:
        CapsemError: it cannot be watched.
    """
    handle = AsyncWatchHandle(await begin(socket, asked), on_event, on_exit)
    await handle.begun()
    return handle


class WatchHandle:
    """A directory that is watched."""

    def __init__(self, handle: AsyncWatchHandle) -> None:
        self._handle = handle

    def get_new_events(self) -> list[FilesystemEvent]:
        """What has come since it was asked last; it does not wait."""
        return LOOP.run(self._handle.get_new_events())

    def stop(self) -> None:
        """Watch no more."""
        LOOP.run(self._handle.stop())
