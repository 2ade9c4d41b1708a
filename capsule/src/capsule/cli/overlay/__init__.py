"""`capsule diff`, `capsule apply`, `capsule discard`: review what a run under `--overlay` wrote."""

from __future__ import annotations

from capsule.overlay.layer import Overlays
from capsule.places import state_directory


def overlays() -> Overlays:
    """This user's overlays: `$XDG_STATE_HOME/capsule/overlays`, as the launcher finds it."""
    return Overlays(state_directory())
