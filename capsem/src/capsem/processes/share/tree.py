"""One directory of the host, by descriptor: what a guest's kernel asks of it is done here or refused.

Every path is walked from the directory's own descriptor, one name at a time, never over a link; the last name is
acted on in the directory that was reached. A link that is made is a file that stands for one (`capsem.workspace.live`);
the guest alone takes it for a link. What it calls `.git` or `HEAD` has another name here (`repositories`). Refuses hard
links, devices, FIFOs, sockets, set-user-id bits, other owners, other file systems mounted below, changes of a file that
has another name, and what `capsem.workspace.live` refuses. Errors are `OSError`.

    tree = Tree(os.open("/home/u/project", os.O_PATH | os.O_DIRECTORY), guards, Limits(), refused)
    tree.lookup(1, "src")
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

from capsem.processes.share.links import SAFE, as_link, read_target, seen, shown, target_at
from capsem.processes.share.repositories import (
    REPOSITORY,
    host_name,
    in_question,
    is_plain,
    machine_name,
    unmade_in,
)
from capsem.wire.fuse import WRITE_LIMIT, Attributes, Entry
from capsem.workspace.guards import Guards
from capsem.workspace.live import (
    LINK_BIT,
    Budget,
    Limits,
    Node,
    Nodes,
    fault,
    link_text,
    unmade,
)

T = TypeVar("T")
Refused = Callable[[str, str, str], None]
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
_WRITING = (os.O_WRONLY, os.O_RDWR)
# Names below a directory that is moved, each of which is looked at; more is moved name by name.
_MOVED = 4096
# Names of open directories that are kept at once.
_LISTED = 400_000
# Paths whose judgement is remembered.
_JUDGED = 1 << 15
MODE_BITS = 0o755
NOREPLACE = 1


@dataclass(slots=True)
class _File:
    node: Node
    descriptor: int
    writes: bool
    names: list[tuple[str, int, int]] | None = None


class Tree:
    """The directory.

    Args:
        root: its descriptor; kept.
        guards: names that are never shown or changed.
        limits: how much it may grow, and what may be open.
        refused: is told what was refused: the act, the path, and why.
    """

    def __init__(self, root: int, guards: Guards, limits: Limits, refused: Refused) -> None:
        self._root = root
        self._device = os.fstat(root).st_dev
        self._guards = guards
        self._withheld = functools.lru_cache(_JUDGED)(guards.withheld)
        self._unmade = functools.lru_cache(_JUDGED)(functools.partial(unmade, guards))
        self._limits = limits
        self._refused = refused
        self.nodes = Nodes(limits.nodes)
        self.budget = Budget(limits)
        self._files: dict[int, _File] = {}
        self._last = 0
        self._listed = 0

    # Where a name is.

    @contextlib.contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        """The directory of that path, while the context lasts."""
        at = os.dup(self._root)
        try:
            for name in path.split("/") if path else ():
                onward = os.open(name, _STEP, dir_fd=at)
                os.close(at)
                at = onward
                if os.fstat(at).st_dev != self._device:
                    raise fault(errno.EXDEV)
            yield at
        finally:
            os.close(at)

    @contextlib.contextmanager
    def _place(self, node: Node) -> Iterator[tuple[int, str]]:
        """The directory that a node is in, and its name there; of the root itself, and `.`."""
        path = self.nodes.path(node)
        if path and self._withheld(path):
            raise fault(errno.ENOENT)
        above, _, name = path.rpartition("/")
        with self._directory(above) as at:
            yield at, name or "."

    def _stat(self, at: int, name: str) -> os.stat_result:
        """What a name is.

        Raises:
            OSError: ENOENT; it is not there, or none of the kinds that are shown.
        """
        about = os.stat(name, dir_fd=at, follow_symlinks=False)
        if stat.S_IFMT(about.st_mode) not in _KINDS or about.st_dev != self._device:
            raise fault(errno.ENOENT)
        return about

    def _may(self, act: str, path: str) -> None:
        if (why := self._unmade(path)) is not None:
            self._no(act, path, why)
        for above, name in in_question(path):
            with self._directory(above) as at:
                if (why := unmade_in(at, name)) is not None:
                    self._no(act, path, why)

    def _no(self, act: str, path: str, why: str) -> None:
        self._refused(act, path, why)
        raise fault(errno.EPERM)

    def _own(self, act: str, node: Node, about: os.stat_result) -> None:
        if stat.S_ISREG(about.st_mode) and about.st_nlink > 1:
            self._no(act, self.nodes.path(node), "the file has another name, which may lie outside")

    def _named(self, parent: Node, name: str) -> str:
        """What the host calls a name that the guest says."""
        if is_plain(name):
            return name
        path = self.nodes.path(parent)
        with self._directory(path) as at:
            return host_name(at, path, name)

    # Looking.

    def lookup(self, number: int, name: str) -> Entry:
        """A name in a directory."""
        parent = self.nodes.get(number)
        try:
            name = self._named(parent, name)
        except PermissionError:
            raise fault(errno.ENOENT) from None
        path = self.nodes.path(parent, name)
        if self._withheld(path):
            raise fault(errno.ENOENT)
        with self._directory(self.nodes.path(parent)) as at:
            about = seen(at, name, self._stat(at, name))
        return self._told(parent, name, about)

    def _told(self, parent: Node, name: str, about: Attributes) -> Entry:
        return Entry(self.nodes.told(parent, name).number, about)

    def attributes(self, number: int) -> Attributes:
        """What a node is; of one whose name was removed, by an open file of it."""
        node = self.nodes.get(number)
        if node.handles:
            return shown(os.fstat(self._files[node.handles[-1]].descriptor))
        with self._place(node) as (at, name):
            return seen(at, name, self._stat(at, name))

    def target(self, number: int) -> bytes:
        """Where a link leads; the guest walks it in its own tree."""
        with self._place(self.nodes.get(number)) as (at, name):
            if (target := target_at(at, name, self._stat(at, name))) is not None:
                return target
            return os.fsencode(os.readlink(name, dir_fd=at))

    def space(self) -> tuple[int, int, int, int]:
        """Blocks of 4096 bytes: all and free; names: all and free. Free is what the limits leave."""
        about = os.fstatvfs(self._root)
        free = min(about.f_bavail * about.f_frsize, max(0, self._limits.size - self.budget.size)) >> 12
        names = min(about.f_favail, max(0, self._limits.files - self.budget.files))
        return max(free, self._limits.size >> 12), free, max(names, self._limits.files), names

    # Changing.

    def change(
        self,
        number: int,
        *,
        mode: int | None = None,
        size: int | None = None,
        times: tuple[int | None, int | None] | None = None,
        owner: tuple[int | None, int | None] = (None, None),
    ) -> Attributes:
        """Change what a node is; times are of access and change, in nanoseconds, None: as it is."""
        node = self.nodes.get(number)
        path = self.nodes.path(node) if not node.gone else "a removed file"
        if any(one not in {None, 0} for one in owner):
            raise fault(errno.EPERM)
        if mode is None and size is None and times is None:
            return self.attributes(number)
        if mode is not None and mode & 0o7000:
            self._no("mode", path, "a bit that gives another user's rights")
        if not node.gone:
            self._may("change", path)
        with self._opened(node, writes=size is not None) as file:
            about = os.fstat(file)
            target = read_target(file)
            if target is not None and (mode is not None or size is not None):
                raise fault(errno.EOPNOTSUPP)
            if not node.gone:
                self._own("change", node, about)
            if mode is not None:
                os.fchmod(file, mode & (MODE_BITS | about.st_mode & 0o022))
            if size is not None:
                if size < 0 or not stat.S_ISREG(about.st_mode):
                    raise fault(errno.EINVAL)
                self._resize(file, about.st_size, size)
            if times is not None:
                old = (about.st_atime_ns, about.st_mtime_ns)
                os.utime(
                    file,
                    ns=(old[0] if times[0] is None else times[0], old[1] if times[1] is None else times[1]),
                )
            about = os.fstat(file)
            return shown(about) if target is None else as_link(about, target)

    def _resize(self, file: int, before: int, after: int) -> None:
        self.budget.grow(before, after)
        try:
            os.ftruncate(file, after)
        except OSError:
            self.budget.size -= after - before
            raise

    @contextlib.contextmanager
    def _opened(self, node: Node, *, writes: bool) -> Iterator[int]:
        """A descriptor of a node's file or directory, while the context lasts."""
        for handle in node.handles:
            if self._files[handle].writes or not writes:
                yield self._files[handle].descriptor
                return
        with self._place(node) as (at, name):
            self._real(self._stat(at, name))
            try:
                file = os.open(name, (os.O_RDWR if writes else os.O_RDONLY) | SAFE, dir_fd=at)
            except PermissionError:
                # Who may not read it may still write it.
                file = os.open(name, os.O_WRONLY | SAFE, dir_fd=at)
        try:
            self._real(os.fstat(file))
            yield file
        finally:
            os.close(file)

    def _real(self, about: os.stat_result) -> None:
        """Refuse what is neither a file nor a directory of this file system, also where a name was swapped."""
        if stat.S_IFMT(about.st_mode) not in {stat.S_IFREG, stat.S_IFDIR} or about.st_dev != self._device:
            raise fault(errno.EPERM)

    def make_directory(self, number: int, name: str, mode: int) -> Entry:
        """Make a directory."""
        parent = self.nodes.get(number)
        name = self._named(parent, name)
        self._may("make", self.nodes.path(parent, name))
        with self._directory(self.nodes.path(parent)) as at:
            self._new(lambda: os.mkdir(name, mode & MODE_BITS, dir_fd=at))
            return self._told(parent, name, shown(self._stat(at, name)))

    def make_file(self, number: int, name: str, mode: int) -> Entry:
        """Make an empty file; nothing else is made."""
        parent = self.nodes.get(number)
        name = self._named(parent, name)
        path = self.nodes.path(parent, name)
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            self._no("make", path, "it is no file and no directory")
        self._may("make", path)
        with self._directory(self.nodes.path(parent)) as at:
            os.close(self._fresh(at, name, mode))
            return self._told(parent, name, shown(self._stat(at, name)))

    def make_link(self, number: int, name: str, target: bytes) -> Entry:
        """Make a file that stands for a link; to the host it is a file, and leads nowhere."""
        parent = self.nodes.get(number)
        name = self._named(parent, name)
        self._may("make", self.nodes.path(parent, name))
        text = link_text(target)
        with self._directory(self.nodes.path(parent)) as at:
            self.budget.grow(0, len(text))
            try:
                self._stands_for(at, name, text)
            except OSError:
                self.budget.size -= len(text)
                raise
            return self._told(parent, name, seen(at, name, self._stat(at, name)))

    def _stands_for(self, at: int, name: str, text: bytes) -> None:
        """A file with this text and `LINK_BIT`, or none.

        Raises:
            OSError: EPERM: the file system does not keep that bit.
        """
        file = self._fresh(at, name, 0o644)
        try:
            if os.write(file, text) != len(text):
                raise fault(errno.ENOSPC)
            os.fchmod(file, 0o644 | LINK_BIT)
            if not os.fstat(file).st_mode & LINK_BIT:
                raise fault(errno.EPERM)
        except OSError:
            os.unlink(name, dir_fd=at)
            self.budget.files -= 1
            raise
        finally:
            os.close(file)

    def _fresh(self, at: int, name: str, mode: int) -> int:
        return self._new(
            lambda: os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE, mode & MODE_BITS, dir_fd=at)
        )

    def _new(self, make: Callable[[], T]) -> T:
        self.budget.name()
        try:
            return make()
        except OSError:
            self.budget.files -= 1
            raise

    def refuse(self, number: int, name: str, why: str) -> None:
        """What is never made."""
        self._no("make", self.nodes.path(self.nodes.get(number), name), why)

    def remove(self, number: int, name: str, *, directory: bool) -> None:
        """Remove a file, a link or an empty directory."""
        parent = self.nodes.get(number)
        name = self._named(parent, name)
        path = self.nodes.path(parent, name)
        self._may("remove", path)
        with self._directory(self.nodes.path(parent)) as at:
            about = self._stat(at, name)
            if directory:
                self._leads("remove", path)
                os.rmdir(name, dir_fd=at)
            else:
                os.unlink(name, dir_fd=at)
        self._was_removed(self.nodes.removed(parent, name), about)

    def _leads(self, act: str, path: str) -> None:
        if (why := self._guards.leads(path)) is not None:
            self._no(act, path, why)

    def _was_removed(self, node: Node | None, about: os.stat_result) -> None:
        """Give back what a name took; the bytes of an open file when it is closed."""
        self.budget.files -= 1
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
            return
        if node is not None and node.handles:
            node.owed = True
        else:
            self.budget.size -= about.st_size

    def move(self, old: int, name: str, new: int, new_name: str, flags: int = 0) -> None:
        """Give a file, a link or a directory another name."""
        if flags & ~NOREPLACE:
            raise fault(errno.EINVAL)
        source, target = self.nodes.get(old), self.nodes.get(new)
        name, new_name = self._named(source, name), self._named(target, new_name)
        before, after = self.nodes.path(source, name), self.nodes.path(target, new_name)
        for path in (before, after):
            self._may("move", path)
        with self._directory(self.nodes.path(source)) as at, self._directory(self.nodes.path(target)) as to:
            about = self._stat(at, name)
            if stat.S_ISDIR(about.st_mode):
                self._movable(at, name, before, after)
            try:
                replaced: os.stat_result | None = self._stat(to, new_name)
            except FileNotFoundError:
                replaced = None
            if replaced is not None:
                if flags & NOREPLACE:
                    raise fault(errno.EEXIST)
                if stat.S_ISDIR(replaced.st_mode):
                    self._leads("move", after)
            os.rename(name, new_name, src_dir_fd=at, dst_dir_fd=to)
        if replaced is not None and (replaced.st_ino, replaced.st_dev) == (about.st_ino, about.st_dev):
            return
        gone = self.nodes.moved(source, name, target, new_name)
        if replaced is not None:
            self._was_removed(gone, replaced)

    def _movable(self, at: int, name: str, before: str, after: str) -> None:
        """Refuse to move a directory that holds a guarded name, or would hold one where it goes."""
        self._leads("move", before)
        room = [0]
        with contextlib.closing(self._below(at, name, "", room)) as found:
            for rest in found:
                for path in (f"{before}/{rest}", f"{after}/{rest}"):
                    if (why := self._guards.kept(path)) is not None:
                        self._no("move", path, why)
        if (REPOSITORY in before.split("/")) != (REPOSITORY in after.split("/")):
            # In there a HEAD has that name; `mv` does it name by name.
            raise fault(errno.EXDEV)

    def _below(self, at: int, name: str, prefix: str, room: list[int]) -> Generator[str]:
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            with os.scandir(directory) as entries:
                names = [(one.name, one.is_dir(follow_symlinks=False)) for one in entries]
            room[0] += len(names)
            if room[0] > _MOVED or prefix.count("/") > 100:
                raise fault(errno.EXDEV)
            for one, inner in names:
                yield prefix + one
                if inner:
                    yield from self._below(directory, one, f"{prefix}{one}/", room)
        finally:
            os.close(directory)

    # Open files.

    def open(self, number: int, flags: int) -> int:
        """Open a file; a handle."""
        node = self.nodes.get(number)
        path = self.nodes.path(node)
        writes = flags & os.O_ACCMODE in _WRITING or bool(flags & os.O_TRUNC)
        if writes:
            self._may("write", path)
        self._room()
        with self._place(node) as (at, name):
            found = self._stat(at, name)
            if not stat.S_ISREG(found.st_mode):
                raise fault(errno.EISDIR)
            if target_at(at, name, found) is not None:
                raise fault(errno.ELOOP)
            access = flags & os.O_ACCMODE
            # A file that is opened only for reading cannot be cut; Linux lets open() do both at once.
            access = os.O_RDWR if access == os.O_RDONLY and writes else access
            file = os.open(name, access | SAFE, dir_fd=at)
        try:
            about = os.fstat(file)
            self._real(about)
            if writes:
                self._own("write", node, about)
            if flags & os.O_TRUNC:
                self._resize(file, about.st_size, 0)
        except BaseException:
            os.close(file)
            raise
        return self._kept(node, file, writes=writes)

    def create(self, number: int, name: str, flags: int, mode: int) -> tuple[Entry, int]:
        """Make a file and open it, or open the one that is there."""
        parent, said = self.nodes.get(number), name
        name = self._named(parent, name)
        path = self.nodes.path(parent, name)
        self._may("make", path)
        self._room()
        with self._directory(self.nodes.path(parent)) as at:
            try:
                file = self._fresh(at, name, mode)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                found = self.lookup(number, said)
                return found, self.open(found.node, flags)
            try:
                found = self._told(parent, name, shown(os.fstat(file)))
                return found, self._kept(self.nodes.get(found.node), file, writes=True)
            except BaseException:
                os.close(file)
                raise

    def _room(self) -> None:
        if len(self._files) >= self._limits.open_files:
            raise fault(errno.ENFILE)

    def _kept(self, node: Node, file: int, *, writes: bool) -> int:
        self._last += 1
        self._files[self._last] = _File(node, file, writes)
        node.handles.append(self._last)
        return self._last

    def _file(self, handle: int) -> _File:
        found = self._files.get(handle)
        if found is None:
            raise fault(errno.EBADF)
        return found

    def read(self, handle: int, at: int, size: int) -> bytes:
        """Bytes of an open file."""
        if self._file(handle).names is not None or at >= 1 << 63:
            raise fault(errno.EINVAL)
        return os.pread(self._file(handle).descriptor, min(size, WRITE_LIMIT), at)

    def write(self, handle: int, at: int, data: bytes) -> int:
        """Write to an open file; how many bytes were taken."""
        file = self._file(handle)
        if not file.writes or at >= 1 << 62:
            raise fault(errno.EBADF)
        before = os.fstat(file.descriptor).st_size
        after = max(before, at + len(data))
        self.budget.grow(before, after)
        try:
            done = os.pwrite(file.descriptor, data, at)
        except OSError:
            self.budget.size -= after - before
            raise
        return done

    def sync(self, handle: int) -> None:
        """Write an open file to the disk."""
        os.fsync(self._file(handle).descriptor)

    def close(self, handle: int) -> None:
        """Close a file or a directory."""
        file = self._file(handle)
        del self._files[handle]
        file.node.handles.remove(handle)
        self._listed -= len(file.names or ())
        if file.node.owed and not file.node.handles:
            self.budget.size -= os.fstat(file.descriptor).st_size
            file.node.owed = False
        os.close(file.descriptor)
        self.nodes.closed(file.node)

    def open_directory(self, number: int) -> int:
        """Open a directory, whose names are those of this moment; a handle."""
        node = self.nodes.get(number)
        self._room()
        path = self.nodes.path(node)
        with self._directory(path) as at:
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        try:
            here = os.fstat(directory).st_ino
            names = [(".", here, stat.S_IFDIR), ("..", here, stat.S_IFDIR)]
            with os.scandir(directory) as entries:
                for one in entries:
                    if self._listed + len(names) >= _LISTED:
                        raise fault(errno.ENFILE)
                    inside = f"{path}/{one.name}" if path else one.name
                    if (kind := _kind(one, directory)) not in _KINDS or self._withheld(inside):
                        continue
                    if (name := machine_name(directory, path, one.name)) is not None:
                        names.append((name, one.inode(), kind))
        except BaseException:
            os.close(directory)
            raise
        handle = self._kept(node, directory, writes=False)
        self._files[handle].names = names
        self._listed += len(names)
        return handle

    def names(self, handle: int, after: int) -> list[tuple[str, int, int]]:
        """Names of an open directory from that place on, each with its inode and kind."""
        names = self._file(handle).names
        if names is None:
            raise fault(errno.ENOTDIR)
        return names[after:]

    def found(self, handle: int, name: str) -> Entry | None:
        """What a name of an open directory is; None where it is gone."""
        file = self._file(handle)
        if name in {".", ".."}:
            return None
        try:
            if not is_plain(name):
                name = host_name(file.descriptor, self.nodes.path(file.node), name)
            return self._told(file.node, name, seen(file.descriptor, name, self._stat(file.descriptor, name)))
        except OSError:
            return None


def _kind(one: os.DirEntry[str], directory: int) -> int:
    if one.is_symlink():
        return stat.S_IFLNK
    if one.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if not one.is_file(follow_symlinks=False):
        return 0
    try:
        about = one.stat(follow_symlinks=False)
        return stat.S_IFREG if target_at(directory, one.name, about) is None else stat.S_IFLNK
    except OSError:
        # Gone meanwhile, or not ours to look at.
        return stat.S_IFREG
