"""What the host sees of machines: their QEMUs, by the session whose record they belong to.

qemus_of(home)          # pids of every QEMU that works on a machine or an image of this home
"""

from __future__ import annotations

import time
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def qemus_of(home: Path) -> list[int]:
    """The QEMUs of one home: those with one of its images open."""
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            if not (directory / "comm").read_text().startswith("qemu-system") or not alive(
                int(directory.name)
            ):
                continue
            links = [str(entry.readlink()) for entry in (directory / "fd").iterdir()]
        except OSError:
            continue
        if any(link.startswith(f"{home}/") for link in links):
            found.append(int(directory.name))
    return found


def until_gone(pid: int, seconds: float = 60.0) -> None:
    """Returns when a process has ended.

    Raises:
        AssertionError: it has not in time.
    """
    until = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < until, f"{pid} still runs"
        time.sleep(0.02)
