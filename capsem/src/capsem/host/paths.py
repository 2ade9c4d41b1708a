"""Where Capsem keeps its things: its home (images, sessions) and its cache of build inputs.

`CAPSEM_HOME` moves the first (default `~/.capsem`), `CAPSEM_CACHE` the second (default `capsem` below
`XDG_CACHE_HOME` or `~/.cache`). Refuses a relative path in either, which would depend on who asks, and what is no
directory.

    images() / "3f…" / "manifest.json"
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from capsem.errors import UsageError


def home() -> Path:
    """The directory of images and sessions, which may not exist yet.

    Raises:
        UsageError: it is no directory, or not absolute.
    """
    return _directory(_named("CAPSEM_HOME") or Path.home() / ".capsem", "CAPSEM_HOME")


def cache() -> Path:
    """The directory of build inputs by content, which may be deleted at any time. Raises as `home` does."""
    place = _named("CAPSEM_CACHE") or (_named("XDG_CACHE_HOME") or Path.home() / ".cache") / "capsem"
    return _directory(place, "CAPSEM_CACHE")


def images() -> Path:
    """The directory of images by digest."""
    return home() / "images"


def sessions() -> Path:
    """The directory of machines by id."""
    return home() / "sessions"


def _directory(path: Path, variable: str) -> Path:
    try:
        found = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        found = not path.is_symlink()
    except NotADirectoryError:
        found = False
    except OSError:
        # Who goes on from here is told what may not be read.
        found = True
    if not found:
        raise UsageError(f"{path} is no directory", next_step=f"set {variable} to a directory of yours")
    return path


def _named(variable: str) -> Path | None:
    text = os.environ.get(variable)
    if not text:
        return None
    path = Path(text)
    if not path.is_absolute():
        raise UsageError(
            f"{variable} is {text!r}, which is not absolute",
            next_step=f"set {variable} to a path that begins with /",
        )
    return path
