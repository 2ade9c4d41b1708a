"""What a layer's directory held when the run began, as the launcher recorded it, and what the host did since.

Pure. What it refuses: a record that is cut off or says what none says.

    before = Before(data)
    before.conflict("a.py", lower)              # 'it was removed on the host since the run began'

A record is one name, ended by a zero byte: `KIND INODE CTIME LAID PATH`, with the kind as a letter, the time in
nanoseconds, and as LAID the mode that was laid into the layer in octal, or `-`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from capsule.overlay.change import Entry, Kind
from capsule.overlay.manifest import OverlayError

_KINDS: dict[bytes, Kind] = {b"d": "directory", b"f": "file", b"l": "link", b"s": "special"}


@dataclass(frozen=True, slots=True)
class Was:
    """One name then. `laid`: the mode of what was laid into the layer for it before the run, or None."""

    kind: Kind
    inode: int
    ctime: int
    laid: int | None


class Before:
    """All names beneath one root, as they were."""

    def __init__(self, data: bytes) -> None:
        """Read a record.

        Raises:
            OverlayError: it is not one.
        """
        self._names: dict[str, Was] = {}
        self._inside: dict[str, set[str]] = {}
        *records, rest = data.split(b"\0")
        if rest:
            raise _bad("it is cut off")
        for record in records:
            path, was = _parsed(record)
            self._names[path] = was
            directory, _, name = path.rpartition("/")
            self._inside.setdefault(directory, set()).add(name)

    def laid(self, path: str) -> int | None:
        """The mode that was laid into the layer for a name, which the run has not chosen; None where none was."""
        was = self._names.get(path)
        return None if was is None else was.laid

    def conflict(self, path: str, lower: Entry) -> str | None:
        """Why the host's side of a name is no longer what the run began with, or None.

        `lower` is what the host has now. A directory that lost or got names is still the same directory.
        """
        was = self._names.get(path)
        if was is None:
            return None if lower.kind == "absent" else "it appeared on the host since the run began"
        if lower.kind == "absent":
            return "it was removed on the host since the run began"
        if (was.kind, was.inode) != (lower.kind, lower.inode):
            return "it was replaced on the host since the run began"
        if was.kind != "directory" and was.ctime != lower.ctime:
            return "it changed on the host since the run began"
        return None

    def missing(self, directory: str, names: Iterable[str]) -> str | None:
        """A name that was in a directory then and is not among `names`, or None."""
        gone = self._inside.get(directory, set()).difference(names)
        return min(gone, default=None)


def _parsed(record: bytes) -> tuple[str, Was]:
    try:
        kind, inode, ctime, laid, path = record.split(b" ", 4)
        mode = None if laid == b"-" else int(laid, 8)
        return path.decode("utf-8", "surrogateescape"), Was(_KINDS[kind], int(inode), int(ctime), mode)
    except (ValueError, KeyError):
        raise _bad(f"{record[:80]!r} is no record") from None


def _bad(why: str) -> OverlayError:
    return OverlayError(
        f"the record of what was there before cannot be used: {why}",
        next_step="throw the overlay away with: capsule discard RUN",
    )
