"""The way to a name in the shared directory, by descriptor, and what is there.

Refuses to go over a link, to another file system mounted below, and to what is neither a file, a directory nor a link.
Errors are `OSError`.

    walk = Walk(os.open("/home/u/project", os.O_PATH | os.O_DIRECTORY))
    with walk.directory("src") as at:
        walk.about(at, "a.py")                    # os.stat_result
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator

from capsem.processes.share.links import target_at
from capsem.workspace.live import fault

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
# Names below a directory that is moved, each of which is looked at; more is moved name by name.
_MOVED = 4096


class Walk:
    """From one directory.

    Args:
        root: its descriptor; kept.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._device = os.fstat(root).st_dev

    @contextlib.contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """The directory of that path, while the context lasts."""
        at = os.dup(self.root)
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

    def about(self, at: int, name: str) -> os.stat_result:
        """What a name is.

        Raises:
            OSError: ENOENT; it is not there, or none of the kinds that are shown.
        """
        about = os.stat(name, dir_fd=at, follow_symlinks=False)
        if stat.S_IFMT(about.st_mode) not in _KINDS or about.st_dev != self._device:
            raise fault(errno.ENOENT)
        return about

    def real(self, about: os.stat_result) -> None:
        """Refuse what is neither a file nor a directory of this file system, also where a name was swapped."""
        if stat.S_IFMT(about.st_mode) not in {stat.S_IFREG, stat.S_IFDIR} or about.st_dev != self._device:
            raise fault(errno.EPERM)


def listed(directory: int, most: Callable[[int], None]) -> Iterator[tuple[str, int, int]]:
    """Names of a directory that are shown, each with its inode and kind.

    Args:
        directory: its descriptor.
        most: is told how many there were before each, and may refuse.
    """
    with os.scandir(directory) as entries:
        for count, one in enumerate(entries):
            most(count)
            if (kind := _kind(one, directory)) in _KINDS:
                yield one.name, one.inode(), kind


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


def below(at: int, name: str) -> Generator[str]:
    """Every path below a directory.

    Raises:
        OSError: EXDEV; there are too many.
    """
    return _below(at, name, "", [0])


def _below(at: int, name: str, prefix: str, room: list[int]) -> Generator[str]:
    directory = os.open(name, _READ, dir_fd=at)
    try:
        with os.scandir(directory) as entries:
            names = [(one.name, one.is_dir(follow_symlinks=False)) for one in entries]
        room[0] += len(names)
        if room[0] > _MOVED or prefix.count("/") > 100:
            raise fault(errno.EXDEV)
        for one, inner in names:
            yield prefix + one
            if inner:
                yield from _below(directory, one, f"{prefix}{one}/", room)
    finally:
        os.close(directory)
