"""Names below a directory, opened by the kernel so that no link and no `..` leads out of it (openat2(2), Linux 5.6).

Refuses, as `OSError`, whatever resolves over a symbolic link or a magic link, or leaves the directory.

    descriptor = open_beneath(root, "src/a.py", os.O_RDONLY)
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import struct

from capsem.errors import MachineError

_OPENAT2 = 437  # one number on every architecture
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_TRIES = 1000
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(root: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of `path` below the directory `root`; an empty path is the root itself.

    Raises:
        OSError: it is not there, or a link is on the way.
        MachineError: this kernel has no openat2.
    """
    how = struct.pack(
        "=QQQ", flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode if flags & os.O_CREAT else 0,
        _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH,
    )  # fmt: skip
    name = os.fsencode(path or ".")
    for attempt in itertools.count(1):
        found = int(
            _libc.syscall(
                _OPENAT2, root, ctypes.c_char_p(name), ctypes.c_char_p(how), ctypes.c_size_t(len(how))
            )
        )
        if found >= 0:
            return found
        number = ctypes.get_errno()
        if number in {errno.EINTR, errno.EAGAIN} and attempt < _TRIES:
            continue  # EAGAIN: something was renamed on the way, and the kernel cannot tell
        if number in {errno.ENOSYS, errno.EPERM} and _missing():
            raise MachineError(
                "this kernel, or a filter around this process, has no openat2",
                next_step="use Linux 5.6 or later",
            )
        raise OSError(number, os.strerror(number), path)
    raise AssertionError("unreachable")


def _missing() -> bool:
    """Whether the call is refused as such: a wrong size of its argument is otherwise EINVAL."""
    _libc.syscall(_OPENAT2, -1, ctypes.c_char_p(b"."), ctypes.c_char_p(b""), ctypes.c_size_t(0))
    return ctypes.get_errno() != errno.EINVAL
