"""An initrd as bytes: an archive of the form `newc`, written the same way every time.

The form is the kernel's own (Documentation/driver-api/early-userspace/buffer-format). Entries come sorted,
parents before children, owned by root, at time 0, with inode numbers counted from 1. Refuses names that are
absolute, leave the archive, repeat, or lack a parent that is a directory.

    archive([Entry("init", 0o100755, agent), Entry("dev", 0o040755)])
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

from capsem.errors import ImageError

_MAGIC = b"070701"
_LIMIT = 0xFFFFFFFF
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or device of the archive.

    Attributes:
        name: path without a leading slash.
        mode: type and permissions as in `st_mode`.
        data: the content of a file, the target of a link.
        device: (major, minor) of a device node.
    """

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of these entries, padded to 512 bytes.

    Raises:
        ImageError: a name or a size that the format or this module refuses.
    """
    ordered = sorted(entries, key=lambda entry: entry.name.split("/"))
    directories = {""}
    seen: set[str] = set()
    parts = []
    for number, entry in enumerate(ordered, start=1):
        _check(entry, seen, directories)
        seen.add(entry.name)
        if stat.S_ISDIR(entry.mode):
            directories.add(entry.name)
        parts.append(_record(number, entry))
    parts.append(_record(0, Entry("TRAILER!!!", 0)))
    whole = b"".join(parts)
    return whole + bytes(-len(whole) % _BLOCK)


def _check(entry: Entry, seen: set[str], directories: set[str]) -> None:
    pieces = entry.name.split("/")
    if not entry.name.isprintable() or any(piece in {"", ".", ".."} for piece in pieces):
        raise ImageError(
            f"initrd: {entry.name!r} is no name in an archive", next_step="give a path below the root"
        )
    if entry.name in seen or entry.name == "TRAILER!!!":
        raise ImageError(f"initrd: {entry.name} is there twice", next_step="leave one of the two out")
    if "/".join(pieces[:-1]) not in directories:
        raise ImageError(f"initrd: {entry.name} is in no directory", next_step="add its directory before it")
    if len(entry.data) > _LIMIT:
        raise ImageError(
            f"initrd: {entry.name} is larger than 4 GiB", next_step="put it into the root file system"
        )
    if entry.data and not (stat.S_ISREG(entry.mode) or stat.S_ISLNK(entry.mode)):
        raise ImageError(
            f"initrd: {entry.name} has content and is no file", next_step="leave the content out"
        )


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + entry.data + bytes(-len(entry.data) % 4)
