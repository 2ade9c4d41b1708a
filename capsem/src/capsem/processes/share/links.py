"""Files that stand for links, as a guest sees them: what `capsem.workspace.live` writes, read from the directory.

Refuses to take a file for a link that has not the bit, which no machine can set. Errors are `OSError`.

    target_at(directory, "python3", about)   # b"/usr/bin/python3"; None: a file like others
"""

from __future__ import annotations

import dataclasses
import os
import stat

from capsem.wire.fuse import Attributes
from capsem.workspace.live import LINK_HEAD, TARGET_LIMIT, link_target, may_be_link

SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How a name is opened that may be swapped for anything."""


def shown(about: os.stat_result) -> Attributes:
    """What a file is, for the guest: no set-user-id, set-group-id or sticky bit."""
    return Attributes(
        about.st_ino, about.st_size, about.st_blocks, about.st_atime_ns, about.st_mtime_ns, about.st_ctime_ns,
        about.st_mode & ~0o7000, about.st_nlink,
    )  # fmt: skip


def as_link(about: os.stat_result, target: bytes) -> Attributes:
    """What a file that stands for a link is, for the guest."""
    return dataclasses.replace(shown(about), mode=stat.S_IFLNK | 0o777, size=len(target))


def read_target(file: int) -> bytes | None:
    """Where an open file with `LINK_BIT` leads; None: it stands for no link."""
    about = os.fstat(file)
    if not may_be_link(about.st_mode, about.st_size):
        return None
    return link_target(os.pread(file, len(LINK_HEAD) + TARGET_LIMIT + 1, 0))


def target_at(at: int, name: str, about: os.stat_result) -> bytes | None:
    """The same of a name in a directory."""
    if not may_be_link(about.st_mode, about.st_size):
        return None
    file = os.open(name, os.O_RDONLY | SAFE, dir_fd=at)
    try:
        return read_target(file)
    finally:
        os.close(file)


def seen(at: int, name: str, about: os.stat_result) -> Attributes:
    """What a name in a directory is, for the guest."""
    target = target_at(at, name, about)
    return shown(about) if target is None else as_link(about, target)
