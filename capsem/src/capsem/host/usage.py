"""What CAPSEM_HOME takes on the disk, and what of it is whose: blocks that are written, each file once.

A file with several names counts once, and a hole not at all; blocks that two files share on a file system with
reflinks count with both, so that the sum is never less than what is taken. Refuses nothing: what cannot be read
while it is being removed is not there.

    used = measured()
    used.total, used.parts[0].kind, used.parts[0].size
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from capsem.errors import CapsemError
from capsem.host import images, paths, places
from capsem.vm.record import decode

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that takes room.

    Attributes:
        kind: image, template, machine, logs or other.
        name: an image's name or digest, a template's key, a machine's name or id, a path.
        size: bytes on the disk.
        apparent: bytes as the files' lengths say.
    """

    kind: str
    name: str
    size: int
    apparent: int


@dataclass(frozen=True, slots=True)
class Usage:
    """All of it, the largest first."""

    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """Bytes on the disk."""
        return sum(part.size for part in self.parts)


def measured() -> Usage:
    """What there is now."""
    seen: set[tuple[int, int]] = set()
    named = {digest: name for name, digest in _names().items()}
    parts = []
    for directory in _entries(paths.home()):
        match directory.name:
            case "images":
                parts += [
                    _part("image", named.get(one.name, one.name[:12]), one, seen)
                    for one in _entries(directory)
                ]
            case "templates":
                parts += [_part("template", one.name[:12], one, seen) for one in _entries(directory)]
            case "sessions":
                parts += [_part("machine", _machine(one), one, seen) for one in _entries(directory)]
            case "logs" | "index":
                parts.append(_part("logs", directory.name, directory, seen))
            case other:
                parts.append(_part("other", other, directory, seen))
    return Usage(tuple(sorted(parts, key=lambda part: (-part.size, part.kind, part.name))))


def _names() -> dict[str, str]:
    try:
        return images.names()
    except CapsemError:
        # Told by what needs the names; the digests do as well.
        return {}


def _machine(directory: Path) -> str:
    place = directory / "session.json"
    try:
        return decode(place.read_bytes(), str(place)).names[0]
    except (OSError, CapsemError):
        return directory.name


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _part(kind: str, name: str, place: Path, seen: set[tuple[int, int]]) -> Part:
    size, apparent = taken([place], seen)
    return Part(kind, name, size, apparent)


def taken(things: Iterable[Path], seen: set[tuple[int, int]] | None = None) -> tuple[int, int]:
    """Bytes that files and directories with all in them take, and bytes as their lengths say.

    Args:
        things: what to look at; a link counts, what it leads to does not.
        seen: what was counted already, by device and inode; added to.
    """
    counted = set() if seen is None else seen
    size = apparent = 0
    waiting: list[str | os.PathLike[str]] = list(things)
    while waiting:
        place = waiting.pop()
        try:
            found = os.lstat(place)
            if (found.st_dev, found.st_ino) in counted:
                continue
            counted.add((found.st_dev, found.st_ino))
            size += found.st_blocks * _BLOCK
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(place) as inside:
                    waiting += list(inside)
            else:
                apparent += found.st_size
        except OSError:
            continue
    return size, apparent


def of_machine(machine: str) -> int:
    """Bytes that a machine takes, its log among them."""
    return taken([places.session(machine), places.log(machine), places.index(machine)])[0]
