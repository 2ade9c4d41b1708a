"""Where the service and the monitors keep things below `CAPSEM_HOME`, all of it for its owner alone.

Refuses a home that another user owns or may write to, and one whose sockets would have names that are too long.

    prepare()
    monitor_socket("m-1a2b3c4d")     # …/run/m-1a2b3c4d.sock
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from capsem.errors import UsageError
from capsem.host import paths

# sun_path of unix(7) holds 108 bytes, one of them zero.
_SOCKET_LIMIT = 107
_ID = re.compile(r"m-[0-9a-f]{8}")


def run() -> Path:
    """Sockets and locks; mode 0700."""
    return paths.home() / "run"


def templates() -> Path:
    """Booted machines that new ones start from, by key."""
    return paths.home() / "templates"


def session(machine: str) -> Path:
    """The directory of one machine."""
    return paths.sessions() / machine


def log(machine: str) -> Path:
    """The record of one machine; it stays when the machine is deleted."""
    return paths.home() / "logs" / f"{machine}.log"


def logged() -> list[Path]:
    """The records that there are, of machines that are gone too, by id."""
    return sorted(place for place in log("").parent.glob("m-*.log") if is_id(place.stem))


def index(machine: str) -> Path:
    """The session database over the record of one machine; made again when it is not there."""
    return paths.home() / "index" / machine


def is_id(text: str) -> bool:
    """Whether this can be the id of a machine."""
    return _ID.fullmatch(text) is not None


def end(directory: Path) -> Path:
    """How the machine of a directory ended, as its monitor left it."""
    return directory / "end.json"


def suspended(directory: Path) -> Path:
    """The memory and devices of a machine that stands suspended; it is suspended as long as this file is there."""
    return directory / "suspended"


def service_socket() -> Path:
    """Where the service listens."""
    return run() / "service.sock"


def monitor_socket(machine: str) -> Path:
    """Where the monitor of one machine listens."""
    return run() / f"{machine}.sock"


def prepare() -> Path:
    """Make what is missing; returns the home.

    Raises:
        UsageError: the home is another user's, others may write to it, or its path is too long for a socket.
    """
    home = paths.home()
    for directory in (home, run(), paths.sessions(), templates(), home / "logs", home / "index"):
        try:
            directory.mkdir(mode=0o700, parents=directory == home, exist_ok=True)
            found = directory.stat()
        except OSError as error:
            raise UsageError(
                f"{error.filename or directory}: {error.strerror}",
                next_step="set CAPSEM_HOME to a directory of yours",
            ) from error
        if found.st_uid != os.geteuid():
            raise UsageError(
                f"{directory} belongs to user {found.st_uid}",
                next_step="set CAPSEM_HOME to a directory of yours",
            )
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise UsageError(f"{directory} may be written by others", next_step=f"chmod 700 {directory}")
    short_enough()
    return home


def short_enough() -> None:
    """Look at the length of the home's path.

    Raises:
        UsageError: it is too long for a socket.
    """
    if len(os.fsencode(monitor_socket("m-00000000"))) > _SOCKET_LIMIT:
        raise UsageError(
            f"{paths.home()} is too long for the name of a socket",
            next_step="set CAPSEM_HOME to a shorter path",
        )
