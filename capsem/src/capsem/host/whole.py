"""A file that is written whole or not at all: aside, to the disk, then under its name.

Refuses to leave half of it under that name, whatever ends the process or the host meanwhile (rename(2), fsync(2)).

    write_whole(directory / "session.json", content)
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from capsem.host import shortage


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put the content under the name, for its owner alone.

    Args:
        path: the name.
        content: all of it.
        sync: whether it has to outlive a power cut, too.

    Raises:
        OSError: it could not be written, and names it; what was there is still there.
    """
    fresh = path.with_name(f"{path.name}.new")
    with shortage.naming(path):
        try:
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(file, view) :]
                if sync:
                    os.fsync(file)
            finally:
                os.close(file)
            fresh.replace(path)
            if sync:
                settle(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise


def settle(directory: Path) -> None:
    """Returns when the names in a directory are on the disk."""
    _synced(directory, os.O_DIRECTORY)


def settle_file(path: Path) -> None:
    """Returns when the content of a file is on the disk."""
    _synced(path, os.O_NOFOLLOW)


def _synced(path: Path, how: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | how)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
