"""A tree that came from a machine, made on the host in a fresh directory, which takes its name when it is whole.

Every name is made by descriptor below that directory (`capsem.host.beneath`). Refuses a target that is there. Leaves
out and tells what is never made: devices, FIFOs, links that lead out. Set-user-id bits are dropped. What broke off
leaves nothing.

    with Extraction(Path("out")) as extraction:
        async for piece in pieces: extraction.feed(piece)
        extraction.finish()
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from capsem.errors import ConflictError, UsageError
from capsem.host import shortage
from capsem.host.beneath import DIRECTORY, NEW, open_beneath
from capsem.wire.archive import ArchiveReader, Limits, Member, leads_out
from capsule.overlay.layer import remove_tree


class Extraction:
    """One tree on its way to `target`.

    Attributes:
        left_out: names that were not made, and why.
        names: how many were.
        size: bytes of the files.
    """

    def __init__(self, target: Path, limits: Limits | None = None) -> None:
        self._target = target
        self._limits = limits
        self._fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        self._file: int | None = None
        self._member: Member | None = None
        self._parent: tuple[str, int] = ("", -1)
        self._directories: list[Member] = []
        self.left_out: list[tuple[str, str]] = []
        self.names = self.size = 0

    def __enter__(self) -> Self:
        if os.path.lexists(self._target):
            raise ConflictError(f"{self._target} is there", next_step="name a place that is not there yet")
        try:
            self._fresh.mkdir(mode=0o700)
        except OSError as error:
            raise UsageError(
                f"{self._target}: {error.strerror}", next_step="name a place that can be written"
            ) from error
        self._root = os.open(self._fresh, DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._reader = ArchiveReader(self._limits or Limits(folds=self._folds()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_file()
        if self._parent[1] >= 0:
            os.close(self._parent[1])
        os.close(self._root)
        if os.path.lexists(self._fresh):
            remove_tree(self._fresh)

    def _folds(self) -> bool:
        """Whether the file system takes names that differ in case for one."""
        os.close(open_beneath(self._root, "a", NEW, 0o600))
        try:
            return Path(self._fresh, "A").exists()
        finally:
            os.unlink("a", dir_fd=self._root)

    def feed(self, untrusted_data: bytes) -> None:
        """More of the archive.

        Raises:
            ArchiveError: it is not what an archive may be.
            OSError: the disk is full, or the like.
        """
        for piece in self._reader.feed(untrusted_data):
            with shortage.naming(self._target):
                if isinstance(piece, Member):
                    self._begin(piece)
                elif self._file is not None:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(self._file, view) :]
                    self.size += len(piece)

    def _begin(self, member: Member) -> None:
        self._close_file()
        if member.kind == "special":
            self.left_out.append((member.path, f"it is a {member.what}"))
            return
        if member.kind == "link" and leads_out(member.path, member.target):
            self.left_out.append((member.path, "it is a link that leads out"))
            return
        if member.dropped:
            self.left_out.append((member.path, f"its mode bits {member.dropped:04o} alone"))
        if member.kind == "directory":
            self._directories.append(member)
        if not member.path:
            return
        above, _, last = member.path.rpartition("/")
        parent = self._inside(above)
        self.names += 1
        if member.kind == "directory":
            os.mkdir(last, 0o700, dir_fd=parent)
        elif member.kind == "link":
            os.symlink(member.target, last, dir_fd=parent)
            os.utime(last, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
        else:
            self._file, self._member = open_beneath(parent, last, NEW, 0o600), member

    def _inside(self, above: str) -> int:
        if self._parent[0] != above or self._parent[1] < 0:
            descriptor = open_beneath(self._root, above, DIRECTORY)
            if self._parent[1] >= 0:
                os.close(self._parent[1])
            self._parent = (above, descriptor)
        return self._parent[1]

    def _close_file(self) -> None:
        if self._file is not None and self._member is not None:
            os.fchmod(self._file, self._member.mode)
            os.utime(self._file, (self._member.mtime, self._member.mtime))
            os.close(self._file)
            self._file = None

    def finish(self) -> None:
        """Nothing more comes: give directories their modes and times, and the tree its name.

        Raises:
            ArchiveError: the archive broke off.
            ConflictError: something took the name meanwhile.
        """
        self._reader.finish()
        self._close_file()
        for member in reversed(self._directories):
            descriptor = open_beneath(self._root, member.path, DIRECTORY)
            try:
                os.utime(descriptor, (member.mtime, member.mtime))
                os.fchmod(descriptor, member.mode)
            finally:
                os.close(descriptor)
        if os.path.lexists(self._target):
            raise ConflictError(f"{self._target} is there", next_step="name a place that is not there yet")
        self._fresh.rename(self._target)
