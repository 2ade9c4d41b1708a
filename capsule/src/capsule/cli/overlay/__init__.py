"""`capsule diff`, `capsule apply`, `capsule discard`: review what a run under `--overlay` wrote."""

from __future__ import annotations

import os
from pathlib import Path

from capsule.overlay.layer import Overlays


def overlays() -> Overlays:
    """This user's overlays: `$XDG_STATE_HOME/capsule/overlays`, as the launcher finds it."""
    set_ = os.environ.get("XDG_STATE_HOME", "")
    base = Path(set_) if set_.startswith("/") else Path.home() / ".local" / "state"
    return Overlays(base / "capsule")
