"""Layers on disk: the runs that have one, and the changes in it, read without following a link.

What it refuses: overlay directories of another user, a run that is still going, names it would have to follow a
link to reach.

    overlays = Overlays(state_directory)
    with overlays.hold("r-…") as overlay:
        for change in overlay.changes(): ...
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from capsule.overlay.before import Before
from capsule.overlay.change import ABSENT, Change, Entry, guarded, judge
from capsule.overlay.manifest import MAX_BYTES, RUN, Manifest, OverlayError, Root, decode

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK = 1 << 16
MAX_RECORD = 1 << 30
"""Bytes of the record of one directory; the launcher bounds the number of names in it."""
_SPECIAL = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(frozen=True, slots=True)
class Overlay:
    """One run's overlay. `directory` holds `manifest.json` and a directory for each layer."""

    directory: Path
    manifest: Manifest

    def changes(self) -> Iterator[tuple[Root, Change]]:
        """All changes, root by root, parents before what is in them."""
        patterns = self.manifest.patterns()
        for root in self.manifest.roots:
            with contextlib.ExitStack() as stack:
                upper = _open(self.directory / str(root.layer) / "upper", stack)
                lower = _open(Path(root.path), stack)
                layer = _open(self.directory / str(root.layer), stack)
                before = Before(_file(layer, "before", MAX_RECORD))
                for change in _walk("", upper, lower, before):
                    why = guarded(root.path, change, patterns)
                    yield root, replace(change, refused=change.refused or why)


class Overlays:
    """The overlays of a user."""

    def __init__(self, state: Path) -> None:
        """`state`: capsule's state directory."""
        self.directory = state / "overlays"

    def runs(self) -> list[str]:
        """All runs that have one, the newest last."""
        try:
            found = [entry for entry in os.scandir(self.directory) if RUN.fullmatch(entry.name)]
        except FileNotFoundError:
            return []
        return [
            entry.name
            for entry in sorted(found, key=lambda e: (e.stat(follow_symlinks=False).st_mtime_ns, e.name))
        ]

    @contextlib.contextmanager
    def hold(self, run: str | None) -> Iterator[Overlay]:
        """One run's overlay (the newest when None), kept from every other process meanwhile.

        Raises:
            OverlayError: there is none, it is in use, or it cannot be trusted.
        """
        name = self._named(run)
        directory = self.directory / name
        lock = os.open(directory, DIRECTORY)
        try:
            if os.fstat(lock).st_uid != os.geteuid():
                raise OverlayError(f"{directory} belongs to another user", next_step="remove it")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OverlayError(f"the run {name} is still going", next_step="wait for its end") from None
            yield Overlay(directory, decode(_file(lock, "manifest.json", MAX_BYTES)))
        finally:
            os.close(lock)

    def discard(self, run: str | None) -> str:
        """Throw one away, whatever is in it; answers its name."""
        name = self._named(run)
        directory = self.directory / name
        lock = os.open(directory, DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(directory)
        except BlockingIOError:
            raise OverlayError(f"the run {name} is still going", next_step="wait for its end") from None
        finally:
            os.close(lock)
        return name

    def _named(self, run: str | None) -> str:
        runs = self.runs()
        if run is None and runs:
            return runs[-1]
        if run is not None and run in runs:
            return run
        raise OverlayError(
            "there is no overlay" if run is None else f"there is no overlay of a run {run!r}",
            next_step="make one with: capsule run --overlay -- CMD"
            if not runs
            else "these exist: " + ", ".join(runs),
        )


def _walk(prefix: str, upper: int, lower: int | None, before: Before) -> Iterator[Change]:
    """The changes in a directory; `lower` is None where the host has none."""
    for name in sorted(_names(upper)):
        path = prefix + name
        above, below = look(upper, name, layer=True), look(lower, name)
        same = above.kind == below.kind == "file" and lower is not None and _same(upper, lower, name)
        conflict = before.conflict(path, below)
        change = judge(path, above, below, same=same, conflict=conflict, laid=before.laid(path))
        if change is not None and change.action in {"removed", "replaced"} and below.kind == "directory":
            change = replace(change, conflict=change.conflict or _differs_below(lower, name, path, before))
        if change is not None:
            yield change
        if above.kind == "directory":
            with contextlib.ExitStack() as stack:
                inner = open_own(upper, name, stack)
                under = (
                    _open_at(lower, name, stack) if below.kind == "directory" and lower is not None else None
                )
                if above.opaque and under is not None:
                    yield from _hidden(path + "/", set(_names(inner)), under, before)
                yield from _walk(path + "/", inner, under, before)


def _hidden(prefix: str, kept: set[str], lower: int, before: Before) -> Iterator[Change]:
    """What an opaque directory takes away."""
    for name in sorted(set(_names(lower)) - kept):
        below = look(lower, name)
        path = prefix + name
        change = judge(path, Entry("whiteout"), below, same=False, conflict=before.conflict(path, below))
        if change is not None:
            inside = _differs_below(lower, name, path, before) if below.kind == "directory" else None
            yield replace(change, conflict=change.conflict or inside)


def _differs_below(lower: int | None, name: str, path: str, before: Before) -> str | None:
    """What in a directory that is to go is no longer as the run began with it, or None."""
    if lower is None:
        return None
    with contextlib.ExitStack() as stack:
        directory = _open_at(lower, name, stack)
        names = _names(directory)
        if (gone := before.missing(path, names)) is not None:
            return f"{gone} in it was removed on the host since the run began"
        for inner in names:
            entry = look(directory, inner)
            if why := before.conflict(f"{path}/{inner}", entry):
                return why.replace("it", f"{inner} in it", 1)
            if entry.kind == "directory" and (
                found := _differs_below(directory, inner, f"{path}/{inner}", before)
            ):
                return found
    return None


def look(directory: int | None, name: str, *, layer: bool = False) -> Entry:
    """The entry of a name; `layer`: with what overlayfs means by it."""
    if directory is None:
        return ABSENT
    try:
        found = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return ABSENT
    mode, kind = stat.S_IMODE(found.st_mode), stat.S_IFMT(found.st_mode)
    entry = Entry(
        "file", mode, found.st_size, links=found.st_nlink, ctime=found.st_ctime_ns, inode=found.st_ino
    )
    if kind == stat.S_IFLNK:
        return replace(entry, kind="link", target=os.readlink(name, dir_fd=directory))
    if layer and kind == stat.S_IFCHR and found.st_rdev == 0:
        return Entry("whiteout")
    if kind in _SPECIAL:
        return replace(entry, kind="special", what=_SPECIAL[kind])
    attributes = _overlay_attributes(directory, name, kind) if layer else {}
    if "redirect" in attributes or "whiteout" in attributes or "metacopy" in attributes:
        return replace(entry, kind="special", what="file whose layer this version cannot read")
    if kind == stat.S_IFDIR:
        return replace(entry, kind="directory", opaque=attributes.get("opaque") == b"y")
    return entry


def _overlay_attributes(directory: int, name: str, kind: int) -> dict[str, bytes]:
    if kind == stat.S_IFDIR:
        with contextlib.ExitStack() as stack:
            return _attributes_of(open_own(directory, name, stack))
    try:
        descriptor = os.open(name, _READ, dir_fd=directory)
    except PermissionError:
        # Our own file without a read bit: it says nothing more than its stat does.
        return {}
    try:
        return _attributes_of(descriptor)
    finally:
        os.close(descriptor)


def _attributes_of(descriptor: int) -> dict[str, bytes]:
    names = [n for n in os.listxattr(descriptor) if n.startswith("user.overlay.")]
    return {n.removeprefix("user.overlay."): os.getxattr(descriptor, n) for n in names}


def open_own(directory: int, name: str, stack: contextlib.ExitStack) -> int:
    """A directory of a layer, which is ours: one that its owner may not read is read, and left as it was."""
    try:
        return _open_at(directory, name, stack)
    except PermissionError:
        mode = stat.S_IMODE(os.lstat(name, dir_fd=directory).st_mode)
    # Nobody else can write here, so the name is still the directory that was just looked at.
    os.chmod(name, mode | 0o700, dir_fd=directory)
    try:
        descriptor = _open_at(directory, name, stack)
    except BaseException:
        os.chmod(name, mode, dir_fd=directory)
        raise
    # Kept readable while it is open: what lies in it is looked at by name.
    stack.callback(os.fchmod, descriptor, mode)
    return descriptor


def _names(directory: int) -> list[str]:
    return os.listdir(directory)


def open_file(directory: int, name: str) -> int:
    """A regular file for reading, without following a link or waiting for a writer."""
    descriptor = os.open(name, _READ, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", name)
    return descriptor


def open_below(base: Path, path: str) -> int:
    """A regular file below a directory, for reading, without following a link."""
    *above, last = path.split("/")
    with contextlib.ExitStack() as stack:
        at = _open(base, stack)
        for part in above:
            at = _open_at(at, part, stack)
        return open_file(at, last)


def _same(one: int, two: int, name: str) -> bool:
    with contextlib.ExitStack() as stack:
        files = []
        for directory in (one, two):
            try:
                files.append(stack.enter_context(os.fdopen(open_file(directory, name), "rb")))
            except OSError:
                return False
        if os.fstat(files[0].fileno()).st_size != os.fstat(files[1].fileno()).st_size:
            return False
        while True:
            blocks = [file.read(_BLOCK) for file in files]
            if blocks[0] != blocks[1]:
                return False
            if not blocks[0]:
                return True


def _open(path: Path, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


def _open_at(directory: int, name: str, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(name, DIRECTORY, dir_fd=directory)
    stack.callback(os.close, descriptor)
    return descriptor


def _file(directory: int, name: str, most: int) -> bytes:
    """A file of the overlay's own."""
    with os.fdopen(open_file(directory, name), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OverlayError(f"the overlay's {name} is too long", next_step="throw the overlay away")
    return data


def remove_tree(directory: Path) -> None:
    """Remove a directory and all in it. overlayfs leaves directories without any permission; they are ours."""
    with contextlib.ExitStack() as stack:
        _empty(_open(directory, stack))
    directory.rmdir()


def _empty(directory: int) -> None:
    for name in _names(directory):
        if not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
            os.unlink(name, dir_fd=directory)
            continue
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(PermissionError):
                inner = _open_at(directory, name, stack)
                if os.fstat(inner).st_mode & 0o700 != 0o700:
                    os.fchmod(inner, 0o700)
                _empty(inner)
                os.rmdir(name, dir_fd=directory)
                continue
            # Nobody else can write here, so the name is still the directory that was just looked at.
            os.chmod(name, 0o700, dir_fd=directory)
            _empty(_open_at(directory, name, stack))
        os.rmdir(name, dir_fd=directory)
