"""Where this user's state lies: one rule, below everything that keeps something there.

It makes nothing and refuses nothing; a relative `XDG_STATE_HOME` is ignored, as the XDG specification demands.

    state_directory() / "egress" / "socket"
"""

from __future__ import annotations

import os
from pathlib import Path


def state_directory() -> Path:
    """`$XDG_STATE_HOME/capsule`, else `~/.local/state/capsule`."""
    named = Path(os.environ.get("XDG_STATE_HOME") or "relative")
    return (named if named.is_absolute() else Path.home() / ".local/state") / "capsule"
