"""What Capsule remembers of logs that are gone: a head of each, and which log was begun at its path.

A machine has logs of its own in its directory (of its QEMU's, its proxy's, its share's run), and they go with it; what
is remembered of them would stay for ever. Refuses to forget a log that is still there.

    remove_with_logs(places.session(record.id))          # the directory, and what is remembered of the logs in it
"""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from blake3 import blake3

from capsule.places import state_directory

_ID = re.compile(r"[0-9a-f]{32}\Z")


def remove_with_logs(directory: Path) -> None:
    """Remove a directory as far as that goes, and forget the logs that lay in it."""
    logs = [directory.resolve() / log.name for log in directory.glob("*.log")]
    shutil.rmtree(directory, ignore_errors=True)
    for log in logs:
        forget(log)


def forget(log: Path) -> None:
    """Forget a log that is gone; one that is there is remembered on.

    Args:
        log: its path, absolute, without links (docs/formats/audit-log.md, *Files*).
    """
    if log.exists():
        return
    name = blake3(bytes(log), derive_key_context="capsule remembered path v1").hexdigest()[:32]
    place = state_directory() / "paths" / name
    with contextlib.suppress(OSError):
        begun = place.read_text(errors="replace").partition("\n")[0]
        if _ID.match(begun):
            (state_directory() / "heads" / begun).unlink(missing_ok=True)
        place.unlink()
