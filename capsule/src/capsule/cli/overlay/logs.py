"""Logs that an overlay would be taken over upon: what a run was not allowed to write is not lost in its name later.

A run keeps the logs that stand when it begins from its command. One that is begun while its overlay lies there is met
only by `apply`, and no `--force` is meant for it.

    logs_beneath(overlay.changes())     # [(change, "/w/audit/two.log")], where that removes `audit`
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from capsule.audit import store
from capsule.audit.chain import BLOCK
from capsule.overlay.change import Change
from capsule.overlay.manifest import Root

_USUAL = "capsule.log"


def logs_beneath(changes: Iterable[tuple[Root, Change]]) -> list[tuple[Change, str]]:
    """The changes that put or remove something where a log of capsule's stands, each with that log."""
    known = store.listed_logs()
    return [(change, log) for root, change in changes if (log := _beneath(root.path, change, known))]


def _beneath(root: str, change: Change, known: frozenset[str]) -> str | None:
    if change.action == "mode":
        return None
    path = os.path.join(root, change.path)  # noqa: PTH118 - text with undecodable bytes
    names: Iterable[str] = [path]
    if change.before.kind == "directory":
        if change.after.kind == "directory":
            return None
        names = (os.path.join(top, name) for top, _, files in os.walk(path) for name in files)  # noqa: PTH118
    return next((name for name in names if _is_log(name, known)), None)


def _is_log(path: str, known: frozenset[str]) -> bool:
    name = os.path.realpath(path)
    usual = Path(name).name
    # What was set aside of a log (`.torn-1`) is evidence too.
    if usual.startswith(_USUAL + ".") or any(name.startswith(log + ".") for log in known):
        return os.path.lexists(path)
    return (usual == _USUAL or name in known) and _begins_as_one(path)


def _begins_as_one(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
            return file.read(len(BLOCK)) == BLOCK
    except FileNotFoundError:
        return False
    except PermissionError:
        return True  # whose it is cannot be seen: nothing is put over it
