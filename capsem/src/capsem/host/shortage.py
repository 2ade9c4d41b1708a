"""A disk that takes nothing more, in words: which, how much is free, and what makes room.

Refuses to call full what failed otherwise: that is told as the system says it, with the file where it names one.

    with naming(path): ...        # what fails in there names that file
    why(error)                    # '…/session.json: Permission denied'
    why(error, directory)         # 'the disk of /home/u/.capsem/sessions/m-4d1337f1 is full (0.0 MB are free)'
    step(error, otherwise="see capsem logs")
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

MAKE_ROOM = "make room there: capsem disk, capsem clean --dry-run"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have what fails within name this file: write(2) and fsync(2) do not, and openat(2) says part of it."""
    try:
        yield
    except OSError as error:
        if error.filename is None or not Path(str(error.filename)).is_absolute():
            error.filename = str(path)
        raise


def why(error: OSError, place: Path | None = None, *, needed: int | None = None) -> str:
    """What went wrong when something was written.

    Args:
        error: what the system said.
        place: where it was written; None: where the file is that the error names, if it names one.
        needed: bytes that have to be there, where that is known.
    """
    if place is None and error.filename is not None:
        place = Path(str(error.filename)).parent
    if place is not None and error.errno == errno.EDQUOT:
        return f"this user may write no more on the disk of {place}: its quota is used up"
    if place is not None and error.errno == errno.ENOSPC:
        needs = "" if needed is None else f", and up to {_megabytes(needed)} have to be"
        return f"the disk of {place} is full ({_free(place)} are free{needs})"
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or str(error) or type(error).__name__}"


def step(error: OSError, *, otherwise: str) -> str:
    """What to do about it."""
    return MAKE_ROOM if error.errno in _FULL else otherwise


def _free(place: Path) -> str:
    # What was to be made may be gone again with its directory.
    there = next(one for one in (place, *place.parents) if one.exists())
    about = os.statvfs(there)
    if not about.f_favail and about.f_files:
        return "no files"
    return _megabytes(about.f_bavail * about.f_frsize)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
