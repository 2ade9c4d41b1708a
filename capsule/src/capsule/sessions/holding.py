"""Whether a run without an end on its log is still being recorded. I/O.

Who records a run holds one byte of `log.lock` beside the log's key for as long as it lives, however it ends
(docs/formats/audit-log.md). It refuses to say anything of a log that was not written from here, and where the system
does not tell who holds a lock.

    held("r-898ab5d2", log_id)      # True, False, or None: nobody here can know
"""

from __future__ import annotations

import fcntl
import os
import struct

from blake3 import blake3

from capsule.places import data_directory, state_directory

_CONTEXT = "capsule run lock v1"
_LOCK = struct.Struct("hhqqi4x")
"""`struct flock` of Linux on 64 bits: type, whence, start, length, process."""


def held(run: str, log: str) -> bool | None:
    """Whether somebody records the run now; None where that cannot be known.

    Args:
        run: `r-…`.
        log: the id of its log.
    """
    query = getattr(fcntl, "F_OFD_GETLK", None)
    if query is None or not (state_directory() / "heads" / log).exists():
        return None
    try:
        locks = os.open(
            data_directory() / "log.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
    except OSError:
        return None
    try:
        asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _place(run), 1, 0)
        found = _LOCK.unpack(fcntl.fcntl(locks, query, asked))
    except OSError:
        return None
    finally:
        os.close(locks)
    return bool(found[0] != fcntl.F_UNLCK)


def _place(run: str) -> int:
    digest = blake3(run.encode(), derive_key_context=_CONTEXT).digest()
    return int.from_bytes(digest[:8], "little") & (2**62 - 1)
