"""Which policies found in directories this user accepted: one small file for each, beneath capsule's state directory.

A name is the BLAKE3 digest of the plan, so whatever changes what would be enforced has to be accepted anew: another
line, a file it extends, another place. The native side looks for the same file before a run. Sandboxes never see the
state directory.

    accept(encode_plan(plan), Path("/repo/capsule.yaml")); is_accepted(encode_plan(plan))
"""

from __future__ import annotations

import json
from pathlib import Path

from blake3 import blake3

from capsule.places import make_private, state_directory
from capsule.profile.trace import write_whole


def _marker(plan: bytes) -> Path:
    return state_directory() / "accepted" / blake3(plan.strip()).hexdigest()


def is_accepted(plan: bytes) -> bool:
    """Whether the canonical plan was accepted by this user."""
    marker = _marker(plan)
    return marker.is_file() and not marker.is_symlink()


def accept(plan: bytes, policy: Path) -> None:
    """Remember it.

    Args:
        plan: the canonical text.
        policy: the file it was compiled from, told to whoever looks into the directory.

    Raises:
        OSError: the state directory cannot be written.
    """
    marker = _marker(plan)
    make_private(marker.parent)
    write_whole(marker, json.dumps({"policy": str(policy)}).encode())


def revoke(plan: bytes) -> bool:
    """Forget it; whether there was something to forget.

    Raises:
        OSError: the state directory cannot be written.
    """
    try:
        _marker(plan).unlink()
    except FileNotFoundError:
        return False
    return True
