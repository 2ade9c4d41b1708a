"""A directory for as long as something lasts.

Refuses to fail without words where none can be made: a full disk, or a limit on the size of files.

    with directory("capsule-trace-") as place: ...
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from capsule.errors import CapsuleError


class TemporaryError(CapsuleError):
    """No temporary directory can be made."""


@contextlib.contextmanager
def directory(prefix: str) -> Iterator[Path]:
    """A new directory that goes with all that is in it.

    Raises:
        TemporaryError: none can be made.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix)
    except OSError as error:
        # Without a place that takes a few bytes Python says that there is none, and not why.
        raise TemporaryError(
            f"no temporary directory can be made: {error.strerror}",
            next_step="make room in /tmp or name another place with TMPDIR; `ulimit -f` says how large a file may be",
        ) from error
    with made as name:
        yield Path(name)
