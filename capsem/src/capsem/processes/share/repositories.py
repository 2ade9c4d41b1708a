"""What a machine calls `.git` or `HEAD` where the host has none: there it has a name that no git of the host looks for.

So git works in the machine, with settings and hooks of its own, and whatever runs git on the host is not led by them:
without a `HEAD` no directory is a repository, bare or not. Refuses those other names to a machine. A `.git` of the host
is the machine's `.git`, all in it has the names it has there, and what is kept of it stays kept. Refuses, too, what
would rule a bare repository of the host, or make one where the host has a `HEAD`.

    host_name(at, "sub", ".git")             # '.git-of-a-machine', or '.git' where the host has one in `sub`
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from capsem.workspace.live import fault

REPOSITORY = ".git"
_SAID = {REPOSITORY: ".git-of-a-machine", "HEAD": "HEAD-of-a-machine"}
_MAKING = frozenset({"objects", "refs", "commondir"})
_RULING = frozenset({"config", "config.worktree", "hooks", "commondir", "worktrees", "modules"})
_NAMES = {host: said for said, host in _SAID.items()}


def is_plain(name: str) -> bool:
    """Whether a name is one and the same on both sides, wherever it is."""
    return name not in _SAID and name not in _NAMES


def _is_alike(above: str, name: str) -> bool:
    """Whether it is one and the same on both sides there."""
    return is_plain(name) or REPOSITORY in above.split("/")


def host_name(at: int, above: str, name: str) -> str:
    """What the host calls a name of a machine.

    Args:
        at: the directory it is in.
        above: the path of that, as the host has it.
        name: as the machine says it.

    Raises:
        OSError: EPERM; a machine does not say that.
    """
    if _is_alike(above, name):
        return name
    if name in _NAMES:
        raise fault(errno.EPERM)
    return name if _is_there(at, name) else _SAID[name]


def _is_there(at: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def machine_name(at: int, above: str, name: str) -> str | None:
    """What a machine calls a name of the host; None: it is not shown. Arguments as of `host_name`."""
    if _is_alike(above, name):
        return name
    said = _NAMES.get(name, name)
    return said if host_name(at, above, said) == name else None


def in_question(path: str) -> Iterator[tuple[str, str]]:
    """Names on a path, each with the path above it, that would make a repository of a directory with a `HEAD`."""
    parts = path.split("/")
    if REPOSITORY in parts:
        return  # the guards know those
    for place, part in enumerate(parts):
        if part.lower() in _MAKING | _RULING:
            yield "/".join(parts[:place]), part


def unmade_in(at: int, name: str) -> str | None:
    """Why such a name is not made or changed in a directory, or None."""
    if not _is_there(at, "HEAD"):
        return None
    if name.lower() in _MAKING and not _is_there(at, name):
        return "with it the directory would be a bare repository: git would take its settings and hooks from there"
    whole = _is_there(at, "commondir") or all(_is_there(at, one) for one in ("objects", "refs"))
    if whole and name.lower() in _RULING:
        return "git takes settings and hooks from there: it is a bare repository"
    return None
