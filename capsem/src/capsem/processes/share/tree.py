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
from collections.abc import Callable, Iterator
from typing import TypeVar

from capsem.processes.share.links import SAFE, as_link, read_target, seen, shown, target_at
from capsem.processes.share.opened import OpenFiles
from capsem.processes.share.repositories import (
    REPOSITORY,
    host_name,
    in_question,
    is_plain,
    machine_name,
    unmade_in,
)
from capsem.processes.share.walking import Walk, below, listed
from capsem.wire.fuse import Attributes, Entry
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
_WRITING = (os.O_WRONLY, os.O_RDWR)
# Paths whose judgement is remembered.
_JUDGED = 1 << 15
MODE_BITS = 0o755
NOREPLACE = 1


class Tree:
    """The directory.

    Args:
        root: its descriptor; kept.
        guards: names that are never shown or changed.
        limits: how much it may grow, and what may be open.
        refused: is told what was refused: the act, the path, and why.
    """

    def __init__(self, root: int, guards: Guards, limits: Limits, refused: Refused) -> None:
        self._walk = Walk(root)
        self._guards = guards
        self._withheld = functools.lru_cache(_JUDGED)(guards.withheld)
        self._unmade = functools.lru_cache(_JUDGED)(functools.partial(unmade, guards))
        self._limits = limits
        self._refused = refused
        self.nodes = Nodes(limits.nodes)
        self.budget = Budget(limits)
        self.files = OpenFiles(limits, self.budget, self.nodes)

    # Where a name is.

    @contextlib.contextmanager
    def _place(self, node: Node) -> Iterator[tuple[int, str]]:
        """The directory that a node is in, and its name there; of the root itself, and `.`."""
        path = self.nodes.path(node)
        if path and self._withheld(path):
            raise fault(errno.ENOENT)
        above, _, name = path.rpartition("/")
        with self._walk.directory(above) as at:
            yield at, name or "."

    def _may(self, act: str, path: str) -> None:
        if (why := self._unmade(path)) is not None:
            self._no(act, path, why)
        for above, name in in_question(path):
            with self._walk.directory(above) as at:
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
        with self._walk.directory(path) as at:
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
        with self._walk.directory(self.nodes.path(parent)) as at:
            about = seen(at, name, self._walk.about(at, name))
        return self._told(parent, name, about)

    def _told(self, parent: Node, name: str, about: Attributes) -> Entry:
        return Entry(self.nodes.told(parent, name).number, about)

    def attributes(self, number: int) -> Attributes:
        """What a node is; of one whose name was removed, by an open file of it."""
        node = self.nodes.get(number)
        if node.handles:
            return shown(os.fstat(self.files.get(node.handles[-1]).descriptor))
        with self._place(node) as (at, name):
            return seen(at, name, self._walk.about(at, name))

    def target(self, number: int) -> bytes:
        """Where a link leads; the guest walks it in its own tree."""
        with self._place(self.nodes.get(number)) as (at, name):
            if (target := target_at(at, name, self._walk.about(at, name))) is not None:
                return target
            return os.fsencode(os.readlink(name, dir_fd=at))

    def space(self) -> tuple[int, int, int, int]:
        """Blocks of 4096 bytes: all and free; names: all and free. Free is what the limits leave."""
        about = os.fstatvfs(self._walk.root)
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
        if (known := self.files.of(node, writes=writes)) is not None:
            yield known
            return
        with self._place(node) as (at, name):
            self._walk.real(self._walk.about(at, name))
            try:
                file = os.open(name, (os.O_RDWR if writes else os.O_RDONLY) | SAFE, dir_fd=at)
            except PermissionError:
                # Who may not read it may still write it.
                file = os.open(name, os.O_WRONLY | SAFE, dir_fd=at)
        try:
            self._walk.real(os.fstat(file))
            yield file
        finally:
            os.close(file)

    def make_directory(self, number: int, name: str, mode: int) -> Entry:
        """Make a directory."""
        parent = self.nodes.get(number)
        name = self._named(parent, name)
        self._may("make", self.nodes.path(parent, name))
        with self._walk.directory(self.nodes.path(parent)) as at:
            self._new(lambda: os.mkdir(name, mode & MODE_BITS, dir_fd=at))
            return self._told(parent, name, shown(self._walk.about(at, name)))

    def make_file(self, number: int, name: str, mode: int) -> Entry:
        """Make an empty file; nothing else is made."""
        parent = self.nodes.get(number)
        name = self._named(parent, name)
        path = self.nodes.path(parent, name)
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            self._no("make", path, "it is no file and no directory")
        self._may("make", path)
        with self._walk.directory(self.nodes.path(parent)) as at:
            os.close(self._fresh(at, name, mode))
            return self._told(parent, name, shown(self._walk.about(at, name)))

    def make_link(self, number: int, name: str, target: bytes) -> Entry:
        """Make a file that stands for a link; to the host it is a file, and leads nowhere."""
        parent = self.nodes.get(number)
        name = self._named(parent, name)
        self._may("make", self.nodes.path(parent, name))
        text = link_text(target)
        with self._walk.directory(self.nodes.path(parent)) as at:
            self.budget.grow(0, len(text))
            try:
                self._stands_for(at, name, text)
            except OSError:
                self.budget.size -= len(text)
                raise
            return self._told(parent, name, seen(at, name, self._walk.about(at, name)))

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
        with self._walk.directory(self.nodes.path(parent)) as at:
            about = self._walk.about(at, name)
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
        with (
            self._walk.directory(self.nodes.path(source)) as at,
            self._walk.directory(self.nodes.path(target)) as to,
        ):
            about = self._walk.about(at, name)
            if stat.S_ISDIR(about.st_mode):
                self._movable(at, name, before, after)
            try:
                replaced: os.stat_result | None = self._walk.about(to, new_name)
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
        with contextlib.closing(below(at, name)) as found:
            for rest in found:
                for path in (f"{before}/{rest}", f"{after}/{rest}"):
                    if (why := self._guards.kept(path)) is not None:
                        self._no("move", path, why)
        if (REPOSITORY in before.split("/")) != (REPOSITORY in after.split("/")):
            # In there a HEAD has that name; `mv` does it name by name.
            raise fault(errno.EXDEV)

    # Open files.

    def open(self, number: int, flags: int) -> int:
        """Open a file; a handle."""
        node = self.nodes.get(number)
        path = self.nodes.path(node)
        writes = flags & os.O_ACCMODE in _WRITING or bool(flags & os.O_TRUNC)
        if writes:
            self._may("write", path)
        self.files.room()
        with self._place(node) as (at, name):
            found = self._walk.about(at, name)
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
            self._walk.real(about)
            if writes:
                self._own("write", node, about)
            if flags & os.O_TRUNC:
                self._resize(file, about.st_size, 0)
        except BaseException:
            os.close(file)
            raise
        return self.files.keep(node, file, writes=writes)

    def create(self, number: int, name: str, flags: int, mode: int) -> tuple[Entry, int]:
        """Make a file and open it, or open the one that is there."""
        parent, said = self.nodes.get(number), name
        name = self._named(parent, name)
        path = self.nodes.path(parent, name)
        self._may("make", path)
        self.files.room()
        with self._walk.directory(self.nodes.path(parent)) as at:
            try:
                file = self._fresh(at, name, mode)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                found = self.lookup(number, said)
                return found, self.open(found.node, flags)
            try:
                found = self._told(parent, name, shown(os.fstat(file)))
                return found, self.files.keep(self.nodes.get(found.node), file, writes=True)
            except BaseException:
                os.close(file)
                raise

    def open_directory(self, number: int) -> int:
        """Open a directory, whose names are those of this moment; a handle."""
        node = self.nodes.get(number)
        self.files.room()
        path = self.nodes.path(node)
        with self._walk.directory(path) as at:
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        try:
            here = os.fstat(directory).st_ino
            names = [(".", here, stat.S_IFDIR), ("..", here, stat.S_IFDIR)]
            for found, inode, kind in listed(directory, self.files.room):
                if self._withheld(f"{path}/{found}" if path else found):
                    continue
                if (name := machine_name(directory, path, found)) is not None:
                    names.append((name, inode, kind))
        except BaseException:
            os.close(directory)
            raise
        return self.files.keep(node, directory, writes=False, names=names)

    def found(self, handle: int, name: str) -> Entry | None:
        """What a name of an open directory is; None where it is gone, or few more can be known: those are asked for."""
        file = self.files.get(handle)
        if name in {".", ".."} or len(self.nodes) > self._limits.nodes // 2:
            return None
        try:
            if not is_plain(name):
                name = host_name(file.descriptor, self.nodes.path(file.node), name)
            return self._told(
                file.node, name, seen(file.descriptor, name, self._walk.about(file.descriptor, name))
            )
        except OSError:
            return None
