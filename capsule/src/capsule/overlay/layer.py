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

from capsule.overlay.change import ABSENT, Change, Entry, guarded, judge
from capsule.overlay.manifest import MAX_BYTES, RUN, Manifest, OverlayError, Root, decode

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK = 1 << 16
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
                for change in _walk("", upper, lower, self.manifest.started):
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
            yield Overlay(directory, decode(_small_file(lock, "manifest.json")))
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


def _walk(prefix: str, upper: int, lower: int | None, started: int) -> Iterator[Change]:
    """The changes in a directory; `lower` is None where the host has none."""
    for name in sorted(_names(upper)):
        path = prefix + name
        above, below = look(upper, name, layer=True), look(lower, name)
        same = above.kind == below.kind == "file" and lower is not None and _same(upper, lower, name)
        change = judge(path, above, below, same=same, started=started)
        if change is not None and change.action in {"removed", "replaced"} and below.kind == "directory":
            change = replace(change, conflict=change.conflict or _newer_below(lower, name, started))
        if change is not None:
            yield change
        if above.kind == "directory":
            with contextlib.ExitStack() as stack:
                inner = _open_at(upper, name, stack)
                under = (
                    _open_at(lower, name, stack) if below.kind == "directory" and lower is not None else None
                )
                if above.opaque and under is not None:
                    yield from _hidden(path + "/", set(_names(inner)), under, started)
                yield from _walk(path + "/", inner, under, started)


def _hidden(prefix: str, kept: set[str], lower: int, started: int) -> Iterator[Change]:
    """What an opaque directory takes away."""
    for name in sorted(set(_names(lower)) - kept):
        below = look(lower, name)
        change = judge(prefix + name, Entry("whiteout"), below, same=False, started=started)
        if change is not None:
            conflict = _newer_below(lower, name, started) if below.kind == "directory" else None
            yield replace(change, conflict=change.conflict or conflict)


def look(directory: int | None, name: str, *, layer: bool = False) -> Entry:
    """The entry of a name; `layer`: with what overlayfs means by it."""
    if directory is None:
        return ABSENT
    try:
        found = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return ABSENT
    mode, kind = stat.S_IMODE(found.st_mode), stat.S_IFMT(found.st_mode)
    entry = Entry("file", mode, found.st_size, links=found.st_nlink, ctime=found.st_ctime_ns)
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
    flags = DIRECTORY if kind == stat.S_IFDIR else _READ
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except PermissionError:
        # Our own file without a read bit: it says nothing more than its stat does.
        return {}
    try:
        names = [n for n in os.listxattr(descriptor) if n.startswith("user.overlay.")]
        return {n.removeprefix("user.overlay."): os.getxattr(descriptor, n) for n in names}
    finally:
        os.close(descriptor)


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


def _newer_below(lower: int | None, name: str, started: int) -> str | None:
    """Whether anything in a directory that is to go changed since the run began."""
    if lower is None or not started:
        return None
    with contextlib.ExitStack() as stack:
        directory = _open_at(lower, name, stack)
        for inner in _names(directory):
            entry = look(directory, inner)
            if entry.kind != "directory" and entry.ctime >= started:
                return f"{inner} in it changed on the host since the run began"
            if entry.kind == "directory" and (found := _newer_below(directory, inner, started)):
                return found
    return None


def _open(path: Path, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


def _open_at(directory: int, name: str, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(name, DIRECTORY, dir_fd=directory)
    stack.callback(os.close, descriptor)
    return descriptor


def _small_file(directory: int, name: str) -> bytes:
    with os.fdopen(open_file(directory, name), "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OverlayError("the overlay's manifest is too long", next_step="throw the overlay away")
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
