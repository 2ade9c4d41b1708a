"""A monitor's hold on the directory of its machine, from before it does anything there until it has done with it.

A lock of fcntl(2) on `monitor.lock`: the kernel lets go of it with the process, however that ends, and says whose it
is.
Refuses a second monitor in one directory: two machines would write one disk.

    take(directory)                  # in the monitor
    leave(directory)                 # there, when its machine has ended
    holder(directory)                # elsewhere: its pid, or None
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
from pathlib import Path

from capsem.errors import MachineError

# struct flock of fcntl(2) on Linux with 64 bits: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi")


def _place(directory: Path) -> Path:
    return directory / "monitor.lock"


def take(directory: Path) -> None:
    """Hold it as long as this process lives.

    Raises:
        MachineError: another process does, or the lock cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(_place(directory), flags, 0o600)
    except OSError as error:
        raise MachineError(
            f"{_place(directory)}: {error.strerror}",
            next_step="may CAPSEM_HOME be written, and is there room?",
        ) from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise MachineError(
            f"another monitor (process {holder(directory)}) is at work in {directory}",
            next_step="see capsem list",
        ) from error
    # Not closed: closing any descriptor of that file lets go of it.


def leave(directory: Path) -> None:
    """Hold it no longer: whoever takes it now finds nothing of this process at work there."""
    with contextlib.suppress(OSError):
        os.close(os.open(_place(directory), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))


def holder(directory: Path) -> int | None:
    """The process that holds it; None: none does."""
    try:
        descriptor = os.open(_place(directory), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)[: _FLOCK.size])
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else int(pid)


def kill(directory: Path) -> None:
    """End whoever holds it, at once; QEMU ends with it."""
    pid = holder(directory)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            # By now it could be another process's number: only its holder is meant.
            if holder(directory) == pid:
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
