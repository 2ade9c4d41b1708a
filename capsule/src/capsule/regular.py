"""A file that somebody named, read whole as far as it may be long.

Refuses what is no regular file: opening a FIFO would hang, reading a device would not end.

    read_regular(Path("rules.yaml"), most=1 << 20)
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class NotRegularError(OSError):
    """It is a directory, a device, a FIFO or a socket."""

    def __init__(self) -> None:
        super().__init__("it is no regular file")
        self.strerror = "it is no regular file"


def read_regular(path: Path, *, most: int) -> bytes:
    """Its content; one byte more than `most` where it is longer.

    Args:
        path: links are followed.
        most: bytes.

    Raises:
        NotRegularError: it is none.
        OSError: it cannot be read.
    """
    # Non-blocking, so that opening a FIFO returns and can be refused.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularError
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most + 1)
