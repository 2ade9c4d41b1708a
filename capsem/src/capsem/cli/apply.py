"""`capsem apply`: take over what a machine changed in its workspace, all of it or nothing.

capsem apply build src tests
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask
from capsem.cli.diff import fetched, line
from capsem.host.applying import Reviewed, review, take_over
from capsem.host.workspace import Workspace
from capsule.overlay.change import Change, shown


@click.command("apply", epilog="Example: capsem apply build src tests")
@click.argument("machine", type=MachineName())
@click.argument("paths", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
@click.option("--skip", is_flag=True, help="Take over the rest when some names are refused or in conflict.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, paths: tuple[str, ...], dry_run: bool, skip: bool, as_json: bool) -> int:
    """Take over what changed in a machine's workspace, or at PATHS in it, into the directory it was copied from.

    Nothing is taken over when the host's side of a name changed since the copy, or when a name is refused: what git,
    editors and agents run on the host, what the policy denies or protects, links that lead out. Exits 1 then.
    """
    workspace = Workspace.of(ask("GET", f"/machines/{machine}"))
    with workspace.held():
        found = fetched(workspace)
        reviewed = review(workspace, found, paths)
        stay: list[str] = []
        taken = not dry_run and (skip or not (reviewed.refused or reviewed.conflicts))
        if taken:
            stay = take_over(workspace, reviewed)
        workspace.collect()
    if as_json:
        terminal.say_json(_told(reviewed, stay, taken=taken))
    else:
        _said(workspace, reviewed, stay, taken=taken, dry_run=dry_run)
    return 1 if reviewed.refused or reviewed.conflicts else 0


def _told(reviewed: Reviewed, stay: list[str], *, taken: bool) -> dict[str, Any]:
    return {
        "taken_over": [one.path for one in reviewed.wanted] if taken else [],
        "would_take_over": [] if taken else [one.path for one in reviewed.wanted],
        "refused": {one.path: one.refused for one in reviewed.refused},
        "conflicts": {one.path: one.conflict for one in reviewed.conflicts},
        "already": reviewed.already,
        "not_empty": stay,
    }


def _said(workspace: Workspace, reviewed: Reviewed, stay: list[str], *, taken: bool, dry_run: bool) -> None:
    for change in reviewed.changes:
        terminal.say(_line(reviewed, change))
    terminal.complain(f"{shown(path)} stays: it holds names that were not copied" for path in stay)
    trouble = len(reviewed.refused) + len(reviewed.conflicts)
    if taken:
        terminal.say(f"{workspace.root}: {len(reviewed.wanted)} changes taken over")
    elif dry_run:
        terminal.say(f"{workspace.root}: {len(reviewed.wanted)} changes would be taken over, {trouble} not")
    else:
        terminal.complain([
            f"{trouble} of {len(reviewed.changes)} changes are refused or in conflict: nothing was taken over",
            f"look at them, then: capsem apply {workspace.name} --skip, or name the paths to take over",
        ])  # fmt: skip


def _line(reviewed: Reviewed, change: Change) -> str:
    difference = reviewed.differences.get(change.path)
    text = f"! {shown(change.path)}" if difference is None else line(difference)
    if change.refused is not None:
        text += f"   REFUSED: {change.refused}"
    elif change.conflict is not None:
        text += f"   CONFLICT: {change.conflict}"
    return text


async def at_the_end(machine: Mapping[str, Any], *, apply: bool) -> bool:
    """Take a temporary machine's workspace over with `apply`, else tell of it; True when the machine may go.

    Raises:
        CapsemError: it could not be read or taken over.
    """
    workspace = Workspace.of(machine, running=False)
    with workspace.held():
        reviewed = review(workspace, await workspace.fetch())
        if not apply:
            if reviewed.changes:
                terminal.complain([
                    f"{len(reviewed.changes)} changes in the workspace go with the machine (--apply takes them over)"
                ])  # fmt: skip
            return True
        if reviewed.refused or reviewed.conflicts:
            terminal.complain(_line(reviewed, change) for change in (*reviewed.refused, *reviewed.conflicts))
            return False
        stay = take_over(workspace, reviewed)
        terminal.complain([f"{len(reviewed.wanted)} changes taken over into {workspace.root}"])
        terminal.complain(f"{shown(path)} stays: it holds names that were not copied" for path in stay)
        return True
