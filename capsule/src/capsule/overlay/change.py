"""What an upper layer of overlayfs means, compared with the directory below it.

Pure: entries come in as facts. What it refuses: devices, FIFOs, sockets and anything whose meaning it does not know;
such a change carries the reason and is never taken over. Set-user-id and set-group-id bits never come through.

    change = judge("src/a.py", upper, lower, same=False)
    change.action                               # 'changed'
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from capsule.policy.glob import Pattern, split
from capsule.unprintable import made_visible

Kind = Literal["absent", "file", "directory", "link", "whiteout", "special"]
Action = Literal["added", "changed", "removed", "mode", "replaced"]

KEPT_MODE = 0o777
"""The bits of a mode that are taken over: no set-user-id, no set-group-id, no sticky bit."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory, as its `lstat` and attributes show it.

    Attributes:
        kind: what it is; a whiteout says that the name below is removed.
        mode: all permission bits.
        size: bytes, of a file.
        target: of a link; undecodable bytes as surrogates.
        opaque: of a directory in a layer: what lies below in a directory of that name is removed.
        links: names it has.
        ctime: nanoseconds of its last change, on the wall clock.
        inode: its number in its file system.
        what: of a special file, its kind in words.
    """

    kind: Kind
    mode: int = 0
    size: int = 0
    target: str = ""
    opaque: bool = False
    links: int = 1
    ctime: int = 0
    inode: int = 0
    what: str = ""


ABSENT = Entry("absent")


@dataclass(frozen=True, slots=True)
class Change:
    """One name that the run added, changed or removed.

    Attributes:
        path: below the root, with surrogates for undecodable bytes.
        action: what happened to it.
        before: what the host has.
        after: what it becomes.
        refused: why it is never taken over, or None.
        conflict: why the host's side is no longer what the run saw, or None.
        notes: what a reviewer should know.
    """

    path: str
    action: Action
    before: Entry
    after: Entry
    refused: str | None = None
    conflict: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """Names below `anchor` (no globs in it) that match `tail` (globs, or empty) may not be touched."""

    anchor: str
    tail: str
    why: str

    def pattern(self) -> Pattern:
        """As a pattern over absolute names."""
        tail = Pattern.parse("/" + self.tail)
        return Pattern((*split(self.anchor), *tail.anchor), tail.tail)


def judge(
    path: str, upper: Entry, lower: Entry, *, same: bool, conflict: str | None = None, laid: int | None = None
) -> Change | None:
    """The change that an upper entry makes to the lower one, or None when it makes none.

    Args:
        path: the name below the root.
        upper: in the layer.
        lower: on the host, now.
        same: whether two files have the same bytes, or a removed directory is unchanged below; ignored otherwise.
        conflict: why the host's side is no longer what the run saw, or None.
        laid: the mode of what lay in the layer before the run, or None.
    """
    if upper.kind == "special":
        return Change(path, "added", lower, upper, refused=f"it is a {upper.what}", conflict=conflict)
    if upper.kind == "whiteout":
        return None if lower.kind == "absent" else Change(path, "removed", lower, ABSENT, conflict=conflict)
    notes = _notes(path, upper)
    if lower.kind == "absent":
        return Change(path, "added", lower, upper, conflict=conflict, notes=notes)
    if upper.kind != lower.kind:
        return Change(path, "replaced", lower, upper, conflict=conflict, notes=notes)
    modes = upper.mode & KEPT_MODE != (lower.mode if laid is None else laid) & KEPT_MODE
    if upper.kind == "directory":
        return Change(path, "mode", lower, upper, conflict=conflict, notes=notes) if modes else None
    if upper.kind == "link":
        changed = upper.target != lower.target
        return Change(path, "changed", lower, upper, conflict=conflict, notes=notes) if changed else None
    if not same:
        return Change(path, "changed", lower, upper, conflict=conflict, notes=notes)
    if lower.links > 1:
        # The file stays, so this reaches names that the run may not have seen, also outside of the directory.
        notes = (*notes, f"all {lower.links} hard links of the host's file get this mode")
    return Change(path, "mode", lower, upper, conflict=conflict, notes=notes) if modes else None


def _notes(path: str, upper: Entry) -> tuple[str, ...]:
    notes = []
    if upper.mode & 0o7000 and upper.kind != "link":
        notes.append(f"mode bits {upper.mode & 0o7000:04o} are dropped")
    if upper.kind == "file" and upper.links > 1:
        notes.append(f"one of {upper.links} hard links; each becomes a file of its own")
    if upper.kind == "link" and points_out(path, upper.target):
        notes.append("points outside")
    return tuple(notes)


def points_out(path: str, target: str) -> bool:
    """Whether a link at `path` (below the root) leads out of the root when no other link is on the way."""
    if target.startswith("/"):
        return True
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return resolved == ".." or resolved.startswith("../")


def guarded(root: str, change: Change, guards: Sequence[tuple[Pattern, str]]) -> str | None:
    """Why a change may not be taken over, whatever the layer says, or None.

    Its name is denied or protected, or it takes away a directory that leads to such a name.
    """
    name = f"{root.rstrip('/')}/{change.path}"
    segments = tuple(split(name))
    takes_away = change.action in {"removed", "replaced"} and change.before.kind == "directory"
    for pattern, why in guards:
        if pattern.covers(name):
            return why
        if takes_away and pattern.anchor[: len(segments)] == segments:
            return f"it leads to a guarded name: {why}"
    return None


def shown(name: str) -> str:
    """A name for a person: anything that could drive a terminal or be mistaken for a line's end is escaped."""
    return made_visible(name.replace("\\", "\\\\"))
