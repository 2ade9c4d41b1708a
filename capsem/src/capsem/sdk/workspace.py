"""A machine's workspace, seen from Python: what changed in it, and taking that over; its snapshots.

Refuses a machine that was made without one, and two calls at once on one machine.

    changes = await box.workspace.diff()
    taken = await box.workspace.apply()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capsem.errors import ConflictError
from capsem.host.applying import review, take_over
from capsem.host.snapshots import Snapshot, Snapshots
from capsem.host.workspace import Workspace as Held
from capsem.workspace.tree import Difference, differences


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the changes.

    Attributes:
        taken_over: names that the host now has as the machine has them.
        refused: names that are never taken over, and why.
        conflicts: names that changed on the host meanwhile, and how.
        dry_run: nothing was changed.
    """

    taken_over: tuple[str, ...]
    refused: Mapping[str, str]
    conflicts: Mapping[str, str]
    dry_run: bool = False


class AsyncWorkspace:
    """The workspace of one machine."""

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self._machine = dict(machine)

    def _held(self) -> Held:
        return Held.of(self._machine, running=False)

    async def diff(self) -> list[Difference]:
        """What the machine changed since the copy."""
        workspace = self._held()
        with workspace.held():
            found = await workspace.fetch()
            changed = differences(workspace.base(), found.tree)
            workspace.collect()
        return changed

    async def apply(self, *paths: str, skip: bool = False, dry_run: bool = False) -> Applied:
        """Take over what changed, or what changed at `paths`, into the directory of the host: all of it or nothing.

        Args:
            paths: names in the workspace; none: all.
            skip: leave out what is refused or in conflict, and take over the rest.
            dry_run: change nothing.

        Raises:
            ConflictError: something is refused or in conflict, and `skip` was not given.
        """
        workspace = self._held()
        with workspace.held():
            reviewed = review(workspace, await workspace.fetch(), paths)
            refused = {one.path: one.refused or "" for one in reviewed.refused}
            conflicts = {one.path: one.conflict or "" for one in reviewed.conflicts}
            if not dry_run:
                if (refused or conflicts) and not skip:
                    first, why = next(iter({**conflicts, **refused}.items()))
                    raise ConflictError(
                        f"{len(refused) + len(conflicts)} changes are refused or in conflict: nothing was taken over; "
                        f"{first}: {why}",
                        next_step="look at apply(dry_run=True); apply(skip=True) leaves those out",
                    )
                take_over(workspace, reviewed)
            workspace.collect()
        return Applied(tuple(one.path for one in reviewed.wanted), refused, conflicts, dry_run)

    async def snapshot(self, name: str | None = None) -> Snapshot:
        """Keep what the machine has now."""
        workspace = self._held()
        with workspace.held():
            return await Snapshots(workspace).create(name)

    def snapshots(self) -> Sequence[Snapshot]:
        """What is kept, oldest first."""
        workspace = self._held()
        with workspace.held():
            return Snapshots(workspace).list()

    async def revert(self, name: str) -> None:
        """Put back what a snapshot has; `base` is what was copied."""
        workspace = self._held()
        with workspace.held():
            await Snapshots(workspace).revert(name)

    def remove_snapshot(self, name: str) -> None:
        """Remove one."""
        workspace = self._held()
        with workspace.held():
            Snapshots(workspace).remove(name)
