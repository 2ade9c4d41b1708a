"""A directory of the host on its way into a machine: looked through, bounded, then written as an archive.

Regular files, directories and links go, links as links; nothing is followed. Left out and told: what `leave` gives a
reason for, devices, FIFOs and sockets, other file systems, directories this user may not read. Refuses a tree over the
limits before the first byte.

    packing = Packing(Path("project"), leave=guards.withheld)
    for piece in packing.pieces(): ...
    packing.tree, packing.left_out
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from blake3 import blake3

from capsem.errors import ConflictError, UsageError
from capsem.host.beneath import DIRECTORY, open_beneath
from capsem.host.objects import Objects, Writer
from capsem.wire.archive import Limits, Member
from capsem.wire.packing import pieces
from capsem.workspace.tree import Node

CHUNK = 1 << 20
_SPECIAL = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


class Packing:
    """One directory, as it was when it was looked through.

    Attributes:
        members: what goes, directories before what is in them.
        left_out: what does not, and why.
        size: bytes of the files.
        tree: what went, by content; whole once `pieces` has ended.
        objects: where the contents are kept, too; None: nowhere.
    """

    def __init__(
        self,
        root: Path,
        *,
        leave: Callable[[str], str | None] = lambda _: None,
        limits: Limits | None = None,
        objects: Objects | None = None,
    ) -> None:
        self._leave = leave
        self._limits = limits or Limits()
        self.objects = objects
        self.members: list[Member] = []
        self.left_out: list[tuple[str, str]] = []
        self.size = 0
        self.tree: dict[str, Node] = {}
        try:
            self._root = os.open(root, DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{root}: {error.strerror}", next_step="name a directory") from error
        try:
            found = os.fstat(self._root)
            self._device = found.st_dev
            self.members.append(
                Member("", "directory", stat.S_IMODE(found.st_mode) & 0o777, int(found.st_mtime))
            )
            self._look("", 0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the directory."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _look(self, above: str, depth: int) -> None:
        try:
            directory = open_beneath(self._root, above, DIRECTORY)
        except PermissionError:
            self.left_out.append((above, "it may not be read"))
            return
        except OSError as error:
            raise _changed(above) from error
        try:
            with os.scandir(directory) as entries:
                found = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
            targets = {
                name: os.readlink(name, dir_fd=directory)
                for name, about in found
                if stat.S_ISLNK(about.st_mode)
            }
        finally:
            os.close(directory)
        for name, about in found:
            path = f"{above}/{name}" if above else name
            kind = stat.S_IFMT(about.st_mode)
            why = self._leave(path)
            if why is None and kind in _SPECIAL:
                why = f"it is a {_SPECIAL[kind]}"
            if why is None and about.st_dev != self._device:
                why = "it is on another file system"
            if why is not None:
                self.left_out.append((path, why))
                continue
            mode, mtime = stat.S_IMODE(about.st_mode) & 0o777, int(about.st_mtime)
            if kind == stat.S_IFREG:
                self._add(Member(path, "file", mode, mtime, about.st_size))
            elif kind == stat.S_IFLNK:
                self._add(Member(path, "link", 0o777, mtime, target=targets[name]))
            else:
                self._add(Member(path, "directory", mode, mtime))
                if depth >= self._limits.depth:
                    raise UsageError(
                        f"{path[:200]} lies more than {self._limits.depth} directories deep",
                        next_step="copy a part of it",
                    )
                self._look(path, depth + 1)

    def _add(self, member: Member) -> None:
        self.members.append(member)
        self.size += member.size
        for count, most, what in (
            (len(self.members), self._limits.names, "names"), (self.size, self._limits.size, "bytes"),
        ):  # fmt: skip
            if count > most:
                raise UsageError(
                    f"the directory has more than {most} {what}; it was at {member.path[:200]!r}",
                    next_step="copy a part of it, or take what is not needed out of it (builds, dependencies, data)",
                )

    def pieces(self) -> Iterator[bytes]:
        """The archive, in pieces of about CHUNK bytes.

        Raises:
            ConflictError: a file changed while it was read.
        """
        return pieces(((member, self._content(member)) for member in self.members), CHUNK)

    def _content(self, member: Member) -> Iterator[bytes]:
        if member.kind == "directory" or member.kind == "link":  # noqa: PLR1714 - mypy narrows this
            if member.path:
                self.tree[member.path] = Node(member.kind, member.mode, 0, member.mtime, "", member.target)
            return
        try:
            descriptor = open_beneath(self._root, member.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise ConflictError(
                f"{member.path}: {error.strerror}", next_step="see that it can be read and stays, and repeat"
            ) from error
        writer = None if self.objects is None else Writer(self.objects)
        digest = blake3()
        left = member.size
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _changed(member.path)
            while left:
                data = os.read(descriptor, min(left, CHUNK))
                if not data:
                    raise _changed(member.path)
                left -= len(data)
                if writer is None:
                    digest.update(data)
                else:
                    writer.write(data)
                yield data
            name = str(digest.hexdigest()) if writer is None else writer.keep()
            self.tree[member.path] = Node("file", member.mode, member.size, member.mtime, name)
        finally:
            os.close(descriptor)
            if writer is not None:
                writer.__exit__(None, None, None)


def _changed(path: str) -> ConflictError:
    return ConflictError(
        f"{path} changed while it was copied", next_step="repeat it when nothing writes there"
    )
