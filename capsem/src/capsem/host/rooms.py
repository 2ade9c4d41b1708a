"""Directories for what is being made, held by a lock: what a process that was killed left there can be told from work.

Refuses to take one for abandoned that somebody holds.

    with room(images, ".building-") as place: …
    abandoned(images, (".building-",))       # those that nobody holds
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


@contextlib.contextmanager
def room(directory: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """A new directory; what is left of it in the end is removed.

    Args:
        directory: where.
        prefix: of its name.
        suffix: of its name.
    """
    while True:
        place = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=directory))
        held = _held(place)
        # Between its making and its lock it may have been taken for abandoned: then another one.
        if held is not None:
            break
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def _held(place: Path) -> int | None:
    """A lock on a directory; None: somebody has it, or it is gone."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), place.lstat()):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def abandoned(directory: Path, prefixes: Sequence[str]) -> list[Path]:
    """The rooms that nobody holds."""
    found = []
    for prefix in prefixes:
        for place in sorted(directory.glob(f"{prefix}*")):
            if (held := _held(place)) is not None:
                os.close(held)
                found.append(place)
    return found


def clear(place: Path) -> bool:
    """Remove an abandoned room; False: somebody holds it after all."""
    held = _held(place)
    if held is None:
        return False
    try:
        shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(held)
    return True
