"""Contents of files by their BLAKE3, in one directory, each written whole or not at all.

Refuses a digest that is none, and to hand out bytes that are not what they are named by.

    objects = Objects(directory)
    with objects.writer() as writer: writer.write(data); digest = writer.keep()
    objects.read(digest, limit=1 << 20)
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from capsem.errors import MachineError
from capsem.host import shortage

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_IN_MEMORY = 1 << 20
"""Bytes that are kept until the digest is known: what is there already is not written again."""


class Objects:
    """A store. The directory is made when something is kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: str) -> Path:
        """Where the content is, if it is there.

        Raises:
            MachineError: the digest is none.
        """
        if _DIGEST.match(digest) is None:
            raise MachineError(f"{digest!r} is no digest", next_step="report this")
        return self.directory / digest[:2] / digest[2:]

    def writer(self) -> Writer:
        """A new content."""
        return Writer(self)

    def read(self, digest: str, limit: int) -> bytes | None:
        """The content; None when it is longer than `limit`.

        Raises:
            MachineError: it is not there, or not what it was.
        """
        try:
            with self.path(digest).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as error:
            raise MachineError(
                f"the content {digest[:12]} is not kept", next_step="take a new snapshot"
            ) from error
        if len(data) > limit:
            return None
        if blake3(data).hexdigest() != digest:
            raise MachineError(
                f"the content {digest[:12]} was changed on the disk", next_step="take a new snapshot"
            )
        return data

    def __iter__(self) -> Iterator[str]:
        """The digests of all that is kept."""
        if not self.directory.is_dir():
            return
        for fan in os.scandir(self.directory):
            if len(fan.name) == 2 and fan.is_dir(follow_symlinks=False):
                yield from (fan.name + entry.name for entry in os.scandir(fan.path))

    def collect(self, wanted: Collection[str]) -> int:
        """Remove what is not wanted, and what a crash left; returns the bytes that are free now."""
        freed = 0
        for digest in list(self):
            if digest not in wanted:
                place = self.path(digest)
                freed += place.stat().st_size
                place.unlink()
        if self.directory.is_dir():
            for left in self.directory.glob("new-*"):
                left.unlink()
        return freed

    def size(self) -> int:
        """Bytes of all that is kept."""
        return sum(self.path(digest).stat().st_size for digest in self)


class Writer:
    """One content on its way."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._hash = blake3()
        self._held = bytearray()
        self._place: Path | None = None
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0:
            os.close(self._file)
        if self._place is not None:
            self._place.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """More of it."""
        self._hash.update(data)
        self._held += data
        if len(self._held) > _IN_MEMORY:
            self._flush()

    def _flush(self) -> None:
        if self._file < 0:
            self._objects.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._place = self._objects.directory / f"new-{secrets.token_hex(8)}"
            self._file = os.open(self._place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        assert self._place is not None
        with memoryview(self._held) as view, shortage.naming(self._place):
            done = 0
            while done < len(view):
                done += os.write(self._file, view[done:])
        self._held.clear()

    def keep(self) -> str:
        """That was all: keep it, and say its digest."""
        digest = str(self._hash.hexdigest())
        place = self._objects.path(digest)
        if place.exists():
            return digest
        self._flush()
        place.parent.mkdir(mode=0o700, exist_ok=True)
        assert self._place is not None
        self._place.rename(place)
        self._place = None
        return digest
