"""The record of one machine: entries go to a `capsule record` of its own, which alone holds the log's key.

Refuses to let an act go on that could not be recorded: once the recorder is gone, every `write` raises. Where the disk
is nearly full, or the log as large as it may be, only what has happened already is still written; the rest is refused
until there is room again. What was written waits in the recorder for a disk that is full to the last byte.

    evidence = await Evidence.open(directory / "capsule.log", "m-1a2b3c4d")
    await evidence.write("machine.exec", {"argv": ["true"]})
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from capsem.errors import MachineError, NoRoomError
from capsem.host.settings import load
from capsem.processes.monitor.seeing import Seeing
from capsule.sandbox.launcher import find_binary

_CLOSE_SECONDS = 10.0
# What is left on the disk for what was handed over already, and for ends.
LEFT = 4 << 20
# How often it is looked whether there is room again, by who waits for it.
ROOM_SECONDS = 0.5
_UNRECORDED = "what happens in the machine cannot be recorded"
_MAKE_ROOM = "make room there: capsem disk, capsem clean; then it goes on by itself"
# How long the recorder may take nothing before that is said.
_TAKE_SECONDS = 5.0
_HAPPENED = frozenset(
    f"machine.{kind}"
    for kind in (
        "exit", "stopped", "crashed", "suspended", "suspend_failed", "boot_failed", "marked", "network_lost",
        "share_lost", "mcp_ended", "deadline_came", "unanswered", "answers", "log_full", "log_goes_on",
    )
)  # fmt: skip
"""What is told of after it was: at most as often as something was begun that was recorded."""
# What may have been written after a mark before it is looked for.
_TAIL = 1 << 20
# A line of the log is at most 64 KiB; the rest of a long command line is told by its length.
_TEXT_LIMIT, _ITEMS_LIMIT = 4096, 256


class Evidence:
    """One machine's log."""

    def __init__(self, process: asyncio.subprocess.Process, run: str, log: Path) -> None:
        self._process = process
        self._run = run
        self._log = log
        self._seeing: list[Seeing] = []
        self._refused = 0
        self._most: int | None = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[Seeing]:
        """What is written from now on, until the block ends."""
        seeing = Seeing()
        self._seeing.append(seeing)
        try:
            yield seeing
        finally:
            self._seeing.remove(seeing)

    @classmethod
    async def open(cls, log: Path, machine: str, *, ahead: bool = False) -> Evidence:
        """Start recording.

        Args:
            log: the file; made when it is not there, gone on with when it is.
            machine: the machine's id, which names the run on the log.
            ahead: the recorder leaves the file alone until there is something to write, and makes none otherwise.

        Raises:
            MachineError: the recorder does not start.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                str(find_binary()), "record", "--wait", *(["--ahead"] if ahead else []), "--log", str(log),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise MachineError(
                f"the recorder does not start: {error}", next_step="see capsule doctor"
            ) from error
        return cls(process, f"r-{machine}", log)

    async def write(self, kind: str, fields: dict[str, Any]) -> None:
        """Append one entry; on the log within 100 ms.

        Raises:
            NoRoomError: there is no room for it; once there is, it goes on.
            MachineError: it cannot be recorded, so what it tells of must not happen.
        """
        if kind not in _HAPPENED:
            await self._look_for_room()
        await self._append(kind, fields)
        for seeing in self._seeing:
            seeing.add(kind, fields)

    async def _look_for_room(self) -> None:
        """That it is full, and goes on, is on the log once each."""
        full = self._full()
        if full is not None:
            self._refused += 1
            if self._refused == 1:
                await self._append("machine.log_full", {"reason": full.message})
            raise full
        if self._refused:
            refused, self._refused = self._refused, 0
            await self._append(
                "machine.log_goes_on", {"reason": f"{refused} entries had no room", "refused": refused}
            )

    def _full(self) -> NoRoomError | None:
        try:
            disk = os.statvfs(self._log.parent)
            size = self._log.stat().st_size if self._log.exists() else 0
        except OSError as error:
            return NoRoomError(
                f"{_UNRECORDED}: {self._log}: {error.strerror}",
                next_step=f"capsule verify {self._log}",
            )
        if (free := disk.f_bavail * disk.f_frsize) < LEFT:
            return NoRoomError(
                f"{_UNRECORDED}: the disk of {self._log.parent} is full "
                f"({free / 1e6:.1f} MB are free, and {LEFT / 1e6:.1f} MB have to be)",
                next_step=_MAKE_ROOM,
            )
        if self._most is None or size < self._most:
            return None
        # It may have been raised meanwhile.
        settings = load()
        most = settings.mebibytes("limits.log")
        self._most = None if most is None else most << 20
        if self._most is None or size < self._most:
            return None
        held = settings.of("limits.log")
        step = "ask who keeps that file" if held.locked else "capsem config set limits.log 2G, or more"
        return NoRoomError(
            f"{_UNRECORDED}: {self._log} has {size / 1e6:.1f} MB, "
            f"and limits.log is {held.value} ({held.place})",
            next_step=f"{step}: then it goes on by itself",
        )

    async def _append(self, kind: str, fields: dict[str, Any]) -> None:
        entry = {"type": kind, "run": self._run, **{name: fitting(value) for name, value in fields.items()}}
        pipe = self._process.stdin
        try:
            if pipe is None or self._process.returncode is not None:
                raise BrokenPipeError(f"the recorder ended with {self._process.returncode}")
            pipe.write(msgspec.json.encode(entry) + b"\n")
            async with asyncio.timeout(_TAKE_SECONDS):
                await pipe.drain()
        except TimeoutError:
            if kind not in _HAPPENED:
                raise NoRoomError(
                    f"{_UNRECORDED}: nothing more fits on the disk of {self._log}",
                    next_step=_MAKE_ROOM,
                ) from None
        except OSError as error:
            raise MachineError(
                f"{_UNRECORDED}: {error}",
                next_step=f"capsule verify {self._log}",
            ) from error

    async def checkpoint(self) -> str:
        """The newest signed checkpoint of the log once everything written so far is in it.

        Raises:
            MachineError: it does not come.
        """
        mark = secrets.token_hex(8)
        await self.write("machine.marked", {"mark": mark})
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                # The recorder signs now, not within its second.
                self._process.stdin.write(b"\n")
        until = time.monotonic() + _CLOSE_SECONDS
        while time.monotonic() < until:
            found = await asyncio.to_thread(_checkpoint_after, self._log, f'"mark":"{mark}"'.encode())
            if found is not None:
                return found
            await asyncio.sleep(0.002)
        raise MachineError(
            f"{self._log} got no checkpoint within {_CLOSE_SECONDS:g} s",
            next_step=f"capsule verify {self._log}",
        )

    async def close(self) -> None:
        """Write what is left, sign it, and let the recorder end."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._process.wait()


async def when_there_is_room(
    write: Callable[[str, dict[str, Any]], Awaitable[None]], kind: str, fields: dict[str, Any]
) -> None:
    """Write what has been decided elsewhere, or has happened; whoever tells of it waits as long as there is no room.

    Raises:
        MachineError: it cannot be recorded.
    """
    while True:
        try:
            return await write(kind, fields)
        except NoRoomError:
            await asyncio.sleep(ROOM_SECONDS)


def _checkpoint_after(log: Path, mark: bytes) -> str | None:
    """The checkpoint that follows an entry at the end of a log, as a text of its own (docs/formats/audit-log.md)."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            _, found, after = file.read().partition(mark)
    except FileNotFoundError:
        return None
    if not found:
        return None
    for line in after.splitlines(keepends=True):
        if line.startswith(b'{"note":') and line.endswith(b"\n"):
            note = msgspec.json.decode(line)["note"]
            return note if isinstance(note, str) else None
    return None


def fitting(value: Any) -> Any:
    """The value with long texts cut and long lists ended, so that a line holds it; fractions become text."""
    match value:
        case str() if len(value) > _TEXT_LIMIT:
            return value[:_TEXT_LIMIT] + f"… ({len(value)} characters)"
        case float():
            return str(value)
        case list() | tuple():
            kept = [fitting(item) for item in value[:_ITEMS_LIMIT]]
            return kept if len(value) <= _ITEMS_LIMIT else [*kept, f"… ({len(value)} items)"]
        case dict():
            return {str(name): fitting(item) for name, item in value.items()}
        case _:
            return value
