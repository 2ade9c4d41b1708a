"""Where this user's state lies: one rule, below everything that keeps something there.

It refuses nothing; a relative `XDG_STATE_HOME` is ignored, as the XDG specification demands. What it makes is this
user's alone.

    state_directory() / "egress" / "socket"
"""

from __future__ import annotations

import os
from pathlib import Path


def state_directory() -> Path:
    """`$XDG_STATE_HOME/capsule`, else `~/.local/state/capsule`."""
    named = Path(os.environ.get("XDG_STATE_HOME") or "relative")
    return (named if named.is_absolute() else Path.home() / ".local/state") / "capsule"


def data_directory() -> Path:
    """`$XDG_DATA_HOME/capsule`, else `~/.local/share/capsule`: what the log is signed and locked with."""
    named = Path(os.environ.get("XDG_DATA_HOME") or "relative")
    return (named if named.is_absolute() else Path.home() / ".local/share") / "capsule"


def make_private(directory: Path) -> None:
    """Make a directory and what is missing above it, each of mode 0700: `mkdir` makes what is above for everybody.

    Raises:
        OSError: one of them cannot be made.
    """
    for one in reversed((directory, *directory.parents)):
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)
