"""Many names, few grants: the smallest set of directories and files that covers what was used. Pure.

A grant in a policy is a hierarchy, so a directory stands for everything beneath it. One is suggested when the command
listed it, made or removed names in it, or used several of its files, or when its files are called after what is in them
(git's objects, npm's cache), because the next run uses others; never one that is too wide to mean anything
(``/``, ``/home``, a home directory), however many of its files were used.

    collapse({"/w/a/1": 2, "/w/a/2": 1, "/w/a/3": 1, "/w/a/4": 1}, whole=(), never=frozenset({"/"}))
    # (Collapsed(path="/w/a", count=5, names=4),)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

_SHARD = re.compile("[0-9a-f]{2}")
_DIGEST = re.compile("[0-9a-f]{28,}")
FILES_BEFORE_DIRECTORY = 4
DIRECTORIES_BEFORE_PARENT = 6


@dataclass(frozen=True, slots=True)
class Collapsed:
    """One grant: how many uses, of how many names, stand behind it."""

    path: str
    count: int
    names: int


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    count: int = 0
    used: bool = False
    whole: bool = False


def collapse(
    uses: Mapping[str, int], *, whole: Collection[str], never: Collection[str]
) -> tuple[Collapsed, ...]:
    """The grants that cover ``uses``.

    Args:
        uses: absolute resolved name → how often.
        whole: directories that must be granted as such (listed, or names made in them), if they are not in ``never``.
        never: directories too wide to suggest; their used names are suggested one by one.

    Returns:
        Grants sorted by path, none beneath another.
    """
    root = _Node()
    for path, count in uses.items():
        node = _walk(root, path)
        node.count += count
        node.used = True
    for path in whole:
        if path not in never:
            _walk(root, path).whole = True
    found: list[Collapsed] = []
    _collect(root, "", frozenset(never), found)
    return tuple(sorted(found, key=lambda grant: grant.path))


def _walk(root: _Node, path: str) -> _Node:
    node = root
    for segment in path.split("/"):
        if segment:
            node = node.children.setdefault(segment, _Node())
    return node


def _collect(node: _Node, path: str, never: frozenset[str], found: list[Collapsed]) -> None:
    here = path or "/"
    if here not in never:
        leaves = sum(1 for child in node.children.values() if child.used and not child.children)
        branches = sum(1 for child in node.children.values() if child.children or child.whole)
        if (
            node.whole
            or _stores(node)
            or leaves >= FILES_BEFORE_DIRECTORY
            or branches >= DIRECTORIES_BEFORE_PARENT
            or (node.used and node.children)
        ):
            count, names = _sum(node)
            found.append(Collapsed(here, count, names))
            return
        if node.used:
            found.append(Collapsed(here, node.count, 1))
            return
    for name, child in node.children.items():
        _collect(child, f"{path}/{name}", never, found)


def _stores(node: _Node) -> bool:
    """Whether names come from contents here: ``ab/cdef…`` or ``ab/cd/ef…``, in hexadecimal."""
    for name, child in node.children.items():
        if _SHARD.fullmatch(name) and any(map(_DIGEST.fullmatch, child.children)):
            return True
        if _SHARD.fullmatch(name) and any(map(_SHARD.fullmatch, child.children)) and _stores(child):
            return True
    return False


def _sum(node: _Node) -> tuple[int, int]:
    count, names = node.count, int(node.used)
    for child in node.children.values():
        more, others = _sum(child)
        count += more
        names += others
    return count, names
