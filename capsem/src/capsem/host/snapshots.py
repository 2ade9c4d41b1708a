"""Snapshots of a machine's workspace: what it had at a moment, by content, on any file system of the host.

Contents are shared with the base and with each other. Refuses a name that is none or taken, more than `MOST` of them,
and to keep more than `STORE_LIMIT` bytes for one machine.

    snapshots = Snapshots(workspace)
    await snapshots.create("before")
    await snapshots.revert("before")
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from capsem.errors import ConflictError, NotFoundError, UsageError
from capsem.host.transfer import Told
from capsem.host.workspace import Workspace, read_tree, write_file
from capsem.workspace.tree import Node, encode

BASE = "base"
"""The name of what was copied into the machine."""
MOST = 100
STORE_LIMIT = 16 << 30
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot.

    Attributes:
        name: unique in its machine.
        created: RFC 3339, UTC.
        names: how many files, directories and links.
        size: bytes of its files.
    """

    name: str
    created: str
    names: int
    size: int


class Snapshots:
    """The snapshots of one workspace; hold it meanwhile."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._directory = workspace.directory / "snapshots"

    def list(self) -> list[Snapshot]:
        """All, oldest first."""
        found = []
        for place in self._directory.glob("*.json"):
            tree, about = read_tree(place)
            size = sum(node.size for node in tree.values())
            found.append(Snapshot(place.stem, str(about.get("created", "")), len(tree), size))
        return sorted(found, key=lambda one: (one.created, one.name))

    def tree(self, name: str) -> dict[str, Node]:
        """What a snapshot has, or the base.

        Raises:
            NotFoundError: there is none of that name.
        """
        if name == BASE:
            return self._workspace.base()
        place = self._directory / f"{_checked(name)}.json"
        if not place.exists():
            raise NotFoundError(
                f"no snapshot named {name!r}", next_step=f"see capsem snapshot list {self._workspace.name}"
            )
        return read_tree(place)[0]

    async def create(self, name: str | None = None, told: Told = lambda _: None) -> Snapshot:
        """Keep what the machine has now.

        Raises:
            ConflictError: the name is taken, or there is no room for more.
        """
        names = {one.stem for one in self._directory.glob("*.json")}
        name = _checked(name) if name is not None else _next(names)
        if name in names or name == BASE:
            raise ConflictError(f"there is a snapshot named {name}", next_step="choose another name")
        if len(names) >= MOST:
            raise ConflictError(f"there are {MOST} snapshots", next_step="remove one: capsem snapshot rm")
        found = await self._workspace.fetch(told)
        if (kept := self._workspace.objects.size()) > STORE_LIMIT:
            self._workspace.collect()
            raise ConflictError(
                f"the snapshots would take {kept} bytes, more than {STORE_LIMIT}",
                next_step="remove some: capsem snapshot rm",
            )
        created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about: dict[str, Any] = {"created": created}
        write_file(self._directory / f"{name}.json", encode(found.tree, **about))
        self._workspace.collect()
        return Snapshot(name, created, len(found.tree), sum(node.size for node in found.tree.values()))

    async def revert(self, name: str, told: Told = lambda _: None) -> int:
        """Make the machine's workspace what the snapshot has; returns how many names that are.

        Raises:
            NotFoundError: there is none of that name.
            MachineError: the machine did not take it; then its workspace is not whole, and a second try is needed.
        """
        tree = self.tree(name)
        await self._workspace.restore(tree, told)
        return len(tree)

    def remove(self, name: str) -> int:
        """Remove one; returns the bytes that are free now.

        Raises:
            UsageError: it is the base.
        """
        if name == BASE:
            raise UsageError("the base stays as long as the machine", next_step="delete the machine")
        self.tree(name)
        (self._directory / f"{name}.json").unlink()
        return self._workspace.collect()


def _checked(name: str) -> str:
    if _NAME.match(name) is None:
        raise UsageError(f"{name!r} is no name of a snapshot", next_step="1 to 63 of a-z, 0-9, '.', '_', '-'")
    return name


def _next(names: set[str]) -> str:
    number = 1
    while f"s{number}" in names:
        number += 1
    return f"s{number}"
