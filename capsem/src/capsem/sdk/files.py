"""Files of a machine, from Python. Names are those of E2B's SDK where it has them.

Refuses to read more into memory than `READ_LIMIT`; what a machine says of its files is its word.

    await box.files.write("/root/x", "text")
    (await box.files.get_info("/root/x")).size
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, overload

from capsem.errors import ConflictError, MachineError, NotFoundError
from capsem.host.extract import Extraction
from capsem.host.operation import Output, answer, begin, read_file, write_file
from capsem.host.packing import Packing
from capsem.host.transfer import fetch, send
from capsem.wire.monitor import File, Result

if TYPE_CHECKING:
    from capsem.sdk.watching import AsyncWatchHandle, FilesystemEvent

_CHUNK = 1 << 18
NAMES, _PAGES = 1_000_000, 10_000
"""Names of one directory that are held at once; a machine tells some hundreds of the longest at a time."""


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """A file, a directory or another name of the machine, as the guest says.

    Attributes:
        name: last segment of its path.
        path: the whole path.
        type: `file`, `directory`, `link` or another kind.
        size: bytes.
        mode: permission bits.
        mtime_ns: ns since 1970.
        target: where a link leads; of `get_info` alone.
        uid: its user; of `get_info` alone.
        gid: its group; of `get_info` alone.
    """

    name: str
    path: str
    type: str
    size: int
    mode: int
    mtime_ns: int
    target: str | None = None
    uid: int | None = None
    gid: int | None = None


def entry_of(path: str, name: str, untrusted: Mapping[str, Any]) -> EntryInfo:
    """What a guest says of a name.

    Raises:
        MachineError: it is not of the documented form.
    """
    try:
        return EntryInfo(
            name, path, str(untrusted["kind"]), int(untrusted["size"]), int(untrusted["mode"]),
            int(untrusted["mtime_ns"]), *(untrusted.get(key) for key in ("target", "uid", "gid")),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise MachineError(
            f"the machine does not say what {path} is: {error!r}",
            next_step="see capsem exec MACHINE -- ls -l",
        ) from None


def _page(path: str, untrusted: Mapping[str, Any]) -> list[EntryInfo]:
    """Some of the names of a directory.

    Raises:
        MachineError: they are not of the documented form.
    """
    try:
        return [
            entry_of(f"{path.rstrip('/')}/{one['name']}", str(one["name"]), one)
            for one in untrusted["entries"]
        ]
    except (KeyError, TypeError) as error:
        raise MachineError(
            f"the machine does not say what is in {path}: {error!r}",
            next_step="see capsem exec MACHINE -- ls -l",
        ) from None


class Files:
    """Files of one machine."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    @overload
    async def read(self, path: str, *, format: Literal["text"] = ...) -> str: ...

    @overload
    async def read(self, path: str, *, format: Literal["bytes"]) -> bytes: ...

    @overload
    async def read(self, path: str, *, format: Literal["stream"]) -> AsyncIterator[bytes]: ...

    async def read(
        self,
        path: str,
        *,
        format: Literal["text", "bytes", "stream"] = "text",  # noqa: A002
    ) -> str | bytes | AsyncIterator[bytes]:
        """The content of a file.

        Args:
            path: its name.
            format: as text (UTF-8), as bytes, or as a stream: an iterator
                of bytes, which may be more than memory holds.
        """
        if format == "stream":
            return self._streamed(path)
        content = await read_file(self._socket, File("read", path))
        return content if format == "bytes" else content.decode()

    async def _streamed(self, path: str) -> AsyncIterator[bytes]:
        operation = await begin(self._socket, File("read", path))
        try:
            async for said in operation:
                if isinstance(said, Output):
                    yield said.content
        finally:
            await operation.close()

    async def write(self, path: str, data: str | bytes, *, mode: int | None = None) -> None:
        """Make a file, or put other content into it."""
        content = data.encode() if isinstance(data, str) else data

        async def pieces() -> AsyncIterator[bytes]:
            for place in range(0, len(content), _CHUNK):
                yield content[place : place + _CHUNK]

        await write_file(self._socket, File("write", path, mode=mode), pieces())

    async def write_files(self, files: Mapping[str, str | bytes]) -> None:
        """Make several files, or put other content into them, one after the other: content by path."""
        for path, data in files.items():
            await self.write(path, data)

    async def list(self, path: str) -> Sequence[EntryInfo]:
        """What is in a directory, in order of names, however much it is.

        Raises:
            MachineError: it is more than the agent of an older image tells,
                or than a million names.
        """
        found: list[EntryInfo] = []
        after: str | None = None
        for _ in range(_PAGES):
            value = await self._ask(File("list", path, after=after))
            page = _page(path, value)
            found += page
            if len(found) > NAMES:
                break
            if not value.get("truncated"):
                return found
            last = value.get("last")
            # What it says last comes after what it was asked for, or this would have no end.
            if not isinstance(last, str) or (after is not None and last <= after):
                raise MachineError(
                    f"{path} has more names than the {len(found)} that its agent tells",
                    next_step="capsem image build, then create the machine again",
                )
            after = last
        raise MachineError(
            f"{path} has more than {NAMES} names", next_step="list it in the machine: capsem exec"
        )

    async def exists(self, path: str) -> bool:
        """Whether there is something of that name."""
        try:
            await self._ask(File("stat", path))
        except NotFoundError:
            return False
        return True

    async def get_info(self, path: str) -> EntryInfo:
        """What a name is; of a link, the link itself.

        Raises:
            NotFoundError: there is nothing of that name.
        """
        return entry_of(path, PurePosixPath(path).name, await self._ask(File("stat", path)))

    async def rename(self, old_path: str, new_path: str) -> EntryInfo:
        """Give a file or a directory another name, in place of a file that has it; returns what it is.

        Where there are rules it must be free to read and to remove under its old name, too.

        Raises:
            NotFoundError: there is nothing of the old name, or no directory for the new one.
            ConflictError: a directory that is not empty has the new name.
        """
        await self._ask(File("rename", old_path, to=new_path))
        return await self.get_info(new_path)

    async def make_dir(self, path: str) -> bool:
        """Make a directory and its parents; False when it was there already.

        Raises:
            ConflictError: there is something else of that name.
        """
        try:
            await self._ask(File("mkdir", path))
        except ConflictError:
            await self._ask(File("mkdir", path, recursive=True))
            return False
        except NotFoundError:
            await self._ask(File("mkdir", path, recursive=True))
        return True

    async def remove(self, path: str) -> None:
        """Remove a file, or a directory with everything in it."""
        await self._ask(File("remove", path, recursive=True))

    async def watch_dir(
        self, path: str, on_event: Callable[[FilesystemEvent], object] | None = None,
        on_exit: Callable[[Exception | None], object] | None = None, *, recursive: bool = False,
        user: int | None = None,
    ) -> AsyncWatchHandle:  # fmt: skip
        """Be told of what changes in a directory, until `stop`.

        Args:
            path: the directory.
            on_event: told of each change as it comes; without it, `get_new_events` has them.
            on_exit: told that nothing more comes, and why, where that was not `stop`.
            recursive: and in all directories below.
            user: the id of the user who watches; None: root.

        Raises:
            NotFoundError: there is no such directory.
            RefusedError: a rule refused to have it read.
        """
        # Most programs watch nothing.
        from capsem.sdk.watching import watch

        asked = File("watch", path, recursive=recursive, user=user)
        return await watch(self._socket, asked, on_event=on_event, on_exit=on_exit)

    async def copy_in(self, source: str | Path, path: str) -> Sequence[tuple[str, str]]:
        """Copy a directory of the host into the machine, to `path`; returns what was left out, and why.

        Links stay links. Left out is what the policy denies (.env, keys), and what is no file, directory or link.

        Raises:
            UsageError: it is over the limits.
        """
        # The policies are loaded for one who copies a directory.
        from capsem.host.workspace import guards_of

        leave = guards_of(Path(source).resolve()).withheld
        with contextlib.closing(Packing(Path(source), leave=leave)) as packing:
            await send(self._socket, path, packing.pieces())
            return packing.left_out

    async def copy_out(self, path: str, target: str | Path) -> Sequence[tuple[str, str]]:
        """Copy a directory of the machine to the host; returns what was left out, and why.

        Raises:
            ConflictError: `target` is there.
            ArchiveError: what the machine sent is not what an archive may be; nothing was kept.
        """
        with Extraction(Path(target)) as extraction:
            await fetch(self._socket, path, extraction.feed)
            extraction.finish()
        return extraction.left_out

    async def _ask(self, asked: File) -> dict[str, Any]:
        return (await answer(self._socket, asked, Result, "answer what was asked")).value
