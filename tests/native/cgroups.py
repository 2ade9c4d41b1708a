"""Control groups for tests: a subtree of ours, made and removed again.

Refuses: to touch a group that somebody else made, beyond a controller for its children (undone at the end).

Example::

    with Subtree() as top:
        command = within(top.leaf("caller"), ["capsule", "run", "--", "true"])
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

NEEDED = ("memory", "pids")
_ENTER = "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write('0'); os.execvp(sys.argv[2], sys.argv[2:])"


def own() -> Path | None:
    """The directory of this process's group in the hierarchy of version 2; None without one."""
    path = next(
        (row[3:] for row in Path("/proc/self/cgroup").read_text().splitlines() if row.startswith("0::")), None
    )
    mounts = [row.split() for row in Path("/proc/self/mounts").read_text().splitlines()]
    root = next((row[1] for row in mounts if row[2] == "cgroup2"), None)
    return None if path is None or root is None else Path(root + path.rstrip("/"))


def within(group: Path, command: Sequence[str]) -> list[str]:
    """The command, started in that group."""
    return [sys.executable, "-I", "-c", _ENTER, str(group), *command]


class Subtree:
    """A group of ours below our own; `controlled` says whether its children could bound memory and processes.

    Raises:
        OSError: no group can be made here.
    """

    def __init__(self) -> None:
        above = own()
        if above is None:
            raise OSError("no cgroup v2 is mounted here")
        self._above = above
        self._switched = self._missing(above)
        if not set(self._switched) - set((above / "cgroup.controllers").read_text().split()):
            with contextlib.suppress(OSError):
                self._switch(above, "+", self._switched)
        self.path = above / f"capsule-test-{os.getpid()}-{time.monotonic_ns()}"
        self.path.mkdir()
        self.controlled = not set(NEEDED) - set((self.path / "cgroup.controllers").read_text().split())

    @staticmethod
    def _missing(group: Path) -> list[str]:
        given = (group / "cgroup.subtree_control").read_text().split()
        return [name for name in NEEDED if name not in given]

    @staticmethod
    def _switch(group: Path, sign: str, names: Sequence[str]) -> None:
        (group / "cgroup.subtree_control").write_text(" ".join(sign + name for name in names))

    def hand_down(self) -> None:
        """Let the groups in it bound memory and processes."""
        self._switch(self.path, "+", NEEDED)

    def give(self, user: pwd.struct_passwd) -> None:
        """Delegate it, as the kernel's documentation describes."""
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(self.path / name, user.pw_uid, user.pw_gid)

    def leaf(self, name: str) -> Path:
        """A group in it."""
        made = self.path / name
        made.mkdir()
        return made

    def names(self) -> list[str]:
        """The groups in it."""
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (self.path / "cgroup.kill").write_text("1")
        # Deepest first; the dead are let go of a moment later.
        for group in sorted([self.path, *(p for p in self.path.rglob("*") if p.is_dir())], reverse=True):
            for _ in range(200):
                try:
                    group.rmdir()
                    break
                except OSError:
                    time.sleep(0.01)
        if self._switched and self.controlled:
            with contextlib.suppress(OSError):
                self._switch(self._above, "-", self._switched)
