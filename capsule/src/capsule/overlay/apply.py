"""Take a run's changes over to the host: all of them or none.

New content is first copied into a staging directory in the root; then each name is put in its place by a rename,
and what stood there is kept until the last one is in place. A failure on the way puts everything back; what a kill
interrupts, `journal.recover` puts back before the next time. Every step goes through descriptors of directories opened
without following links. What it refuses: changes that are refused or in conflict; the caller has decided about those.

    with Application(root_path, upper_path) as application:
        for change in changes:
            application.stage(change)
        application.commit()
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from capsule.overlay.change import KEPT_MODE, Change
from capsule.overlay.journal import Journal, Step
from capsule.overlay.layer import DIRECTORY, look, open_file, open_own, remove_tree
from capsule.overlay.manifest import OverlayError

_LOOK = "what was put back counts as changed since: look at `capsule diff`, then: capsule apply --force"
_PIECE = 1 << 20
_ACCESS = "system.posix_acl_access"
_LABEL = "security.selinux"
_KEPT_ATTRIBUTES = ("user.", _ACCESS, _LABEL)
"""Not among them: what gives the program in a file more than its user has (security.capability)."""
_BESIDE = 64
"""Files that may be open beside them: of whoever calls, and while something is removed."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Application:
    """The changes of one root, staged and then put in place."""

    def __init__(self, root: Path, upper: Path) -> None:
        """`root` on the host, `upper` the layer's directory."""
        self._root = root
        self._upper = upper
        self._stack = contextlib.ExitStack()
        self._changes: list[tuple[Change, str]] = []
        self._undo: list[Callable[[], None]] = []
        self._modes: list[Callable[[], None]] = []
        self._kept: dict[tuple[int, int], int] = {}
        self._moved: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._root_fd = self._directory(str(self._root))
        self._upper_fd = self._directory(str(self._upper))
        self._staging = self._root / f".capsule-apply-{secrets.token_hex(8)}"
        self._journal = Journal(self._upper.parent)
        self._journal.begin(self._root, self._staging.name, [])
        os.mkdir(self._staging.name, 0o700, dir_fd=self._root_fd)
        self._staging_fd = self._directory(self._staging.name, self._root_fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self.roll_back()
            self._journal.done()
            remove_tree(self._staging)
            self._journal.over()
        finally:
            self._stack.close()

    def stage(self, change: Change) -> None:
        """Copy what a change brings; nothing on the host is different yet."""
        if change.refused is not None:
            raise OverlayError(f"{change.path!r} is refused: {change.refused}", next_step="leave it out")
        name = str(len(self._changes))
        self._changes.append((change, name))
        if change.action in {"removed", "mode"} or change.after.kind == "directory":
            return
        with self._parent(self._upper_fd, change.path, own=True) as (parent, last):
            if change.after.kind == "link":
                os.symlink(os.readlink(last, dir_fd=parent), name, dir_fd=self._staging_fd)
                return
            source = os.fdopen(open_file(parent, last), "rb")
        with source, os.fdopen(os.open(name, _NEW, 0o600, dir_fd=self._staging_fd), "wb") as copy:
            _copy(source.fileno(), copy.fileno())
            if change.before.kind == "file":
                self._attributes(change.path, copy.fileno())
            os.fchmod(copy.fileno(), change.after.mode & KEPT_MODE)

    def _attributes(self, path: str, copy: int) -> None:
        """What the host's file has beside its content stays: access lists, its user's attributes."""
        # Not what a new file gets from the directory it is staged in.
        with _without({errno.ENODATA, errno.EOPNOTSUPP}):
            os.removexattr(copy, _ACCESS)
        with contextlib.ExitStack() as stack:
            parent, last = stack.enter_context(self._parent(self._root_fd, path))
            try:
                host = open_file(parent, last)
            except PermissionError:
                return  # its user may replace it, and not know what it has
            stack.callback(os.close, host)
            names: list[str] = []
            with _without({errno.EOPNOTSUPP}):
                names = os.listxattr(host)
            for name in names:
                if not name.startswith(_KEPT_ATTRIBUTES):
                    continue
                # The host's own rules may say what a new file's label is.
                with _without({errno.EPERM, errno.EACCES} if name == _LABEL else set()):
                    os.setxattr(copy, name, os.getxattr(host, name))

    def commit(self) -> None:
        """Put everything in its place, parents first; on an error everything is put back."""
        parents = {change.path.rpartition("/")[0] for change, _ in self._changes}
        deepest = max((change.path.count("/") for change, _ in self._changes), default=0)
        self._stack.enter_context(_files_for(len(parents), deepest))
        self._journal.begin(self._root, self._staging.name, [self._step(*one) for one in self._changes])
        for change, name in self._changes:
            self._place(change, name)
        # Last, and the deepest first: a directory that may not be written was filled before.
        for step in reversed(self._modes):
            step()

    def _step(self, change: Change, staged: str) -> Step:
        kind = "mode" if change.action == "mode" else change.after.kind
        if change.action == "removed":
            kind = "absent"
        inode = look(self._staging_fd, staged).inode if kind in {"file", "link"} else 0
        return Step(change.path, staged, kind, inode, change.before.mode)

    def roll_back(self) -> None:
        """Undo what `commit` did."""
        while self._undo:
            self._undo.pop()()

    def _place(self, change: Change, staged: str) -> None:
        with self._parent(self._root_fd, change.path) as (parent, last):
            now, was = look(parent, last), change.before
            # Moving one name of a file away is a change of all its names.
            changed = now.ctime != self._moved.get(was.inode, was.ctime) and now.kind != "directory"
            if (now.kind, now.inode) != (was.kind, was.inode) or changed:
                raise OverlayError(
                    f"{change.path!r} changed on the host just now; everything was put back",
                    next_step=_LOOK,
                )
            if change.action == "mode":
                self._mode(parent, last, change)
                return
            if change.before.kind != "absent":
                self._away(parent, last, f"{staged}.old")
            if change.action == "removed":
                return
            if change.after.kind == "directory":
                os.mkdir(last, 0o700, dir_fd=parent)
                self._later(parent, lambda fd: os.rmdir(last, dir_fd=fd))
                self._mode_of(parent, last, change.after.mode & KEPT_MODE, DIRECTORY)
                return
            # Never over something: what stood here is in the staging directory, and nothing else may have come.
            if look(parent, last).kind != "absent":
                raise OverlayError(
                    f"{change.path!r} appeared on the host just now; everything was put back",
                    next_step=_LOOK,
                )
            os.rename(staged, last, src_dir_fd=self._staging_fd, dst_dir_fd=parent)
            self._later(parent, lambda fd: os.unlink(last, dir_fd=fd))

    def _away(self, parent: int, last: str, kept: str) -> None:
        os.rename(last, kept, src_dir_fd=parent, dst_dir_fd=self._staging_fd)
        moved = look(self._staging_fd, kept)
        self._moved[moved.inode] = moved.ctime
        self._later(parent, lambda fd: os.rename(kept, last, src_dir_fd=self._staging_fd, dst_dir_fd=fd))

    def _mode(self, parent: int, last: str, change: Change) -> None:
        flags = DIRECTORY if change.after.kind == "directory" else os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        self._mode_of(parent, last, change.after.mode & KEPT_MODE, flags)
        self._later(parent, lambda fd: self._chmod(fd, last, change.before.mode, flags))

    def _mode_of(self, parent: int, last: str, mode: int, flags: int) -> None:
        kept = self._keep(parent)
        self._modes.append(lambda: self._chmod(kept, last, mode, flags))

    @staticmethod
    def _chmod(parent: int, last: str, mode: int, flags: int) -> None:
        descriptor = os.open(last, flags | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def _later(self, parent: int, step: Callable[[int], None]) -> None:
        """Remember how to undo, by a descriptor of the directory: its name may change meanwhile."""
        kept = self._keep(parent)
        self._undo.append(lambda: step(kept))

    def _keep(self, directory: int) -> int:
        """A descriptor of a directory until all is over: one, however much changes in there."""
        found = os.fstat(directory)
        which = (found.st_dev, found.st_ino)
        if which not in self._kept:
            kept = self._kept[which] = os.dup(directory)
            self._stack.callback(os.close, kept)
        return self._kept[which]

    @contextlib.contextmanager
    def _parent(self, start: int, path: str, *, own: bool = False) -> Iterator[tuple[int, str]]:
        """The directory a name lies in, reached without following a link, and its last part. `own`: in the layer."""
        *above, last = path.split("/")
        with contextlib.ExitStack() as stack:
            at = start
            for part in above:
                if own:
                    at = open_own(at, part, stack)
                    continue
                at = os.open(part, DIRECTORY, dir_fd=at)
                stack.callback(os.close, at)
            yield at, last

    def _directory(self, name: str, at: int | None = None) -> int:
        descriptor = os.open(name, DIRECTORY, dir_fd=at)
        self._stack.callback(os.close, descriptor)
        return descriptor


@contextlib.contextmanager
def _files_for(directories: int, deepest: int) -> Iterator[None]:
    """This process may have a descriptor of each directory open, beside what it has; as before when that is over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sum(1 for _ in Path("/dev/fd").iterdir()) + directories + 2 * deepest + _BESIDE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        yield
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise OverlayError(
            f"the changes lie in {directories} directories, and a process of yours may have {hard} files open at once; "
            "nothing was changed",
            next_step="take over one part after the other by naming paths, or raise the limit: ulimit -Hn",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def _without(numbers: set[int]) -> Iterator[None]:
    """Nothing is amiss where the system answers one of these error numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def _copy(source: int, copy: int) -> None:
    """Content and time of a file into an empty one; what takes no room there takes none here (lseek(2), SEEK_DATA)."""
    known = os.fstat(source)
    os.ftruncate(copy, known.st_size)
    at = 0
    while at < known.st_size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole to the end
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end and (piece := os.pread(source, min(_PIECE, end - at), at)):
            at += os.pwrite(copy, piece, at)
        at = max(at, end)
    os.utime(copy, ns=(known.st_atime_ns, known.st_mtime_ns))
