"""`capsem diff`: what a machine changed in its workspace, as a patch that `git apply` takes.

capsem diff build > work.patch
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click
import msgspec

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask
from capsem.host.objects import Objects
from capsem.host.workspace import Found, Workspace
from capsem.workspace.patch import MAX_TEXT, patch
from capsem.workspace.tree import Difference, below, differences
from capsule.overlay import change as overlay

_LETTERS = {"added": "A", "changed": "M", "removed": "D", "mode": "m", "replaced": "R"}


@click.command("diff", epilog="Example: capsem diff build > work.patch")
@click.argument("machine", type=MachineName())
@click.argument("paths", nargs=-1)
@click.option("--stat", is_flag=True, help="One line for each name.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each name.")
def command(*, machine: str, paths: tuple[str, ...], stat: bool, as_json: bool) -> int:
    """Show what changed in a machine's workspace, or at PATHS in it. Exits 1 when something did, else 0.

    A patch for `git apply` in the directory. On a terminal control characters are escaped.
    """
    workspace = Workspace.of(ask("GET", f"/machines/{machine}"))
    with workspace.held():
        found = fetched(workspace)
        changed = [one for one in differences(workspace.base(), found.tree) if below(one.path, paths)]
        special = [
            Difference(path, "added", None, None) for path in sorted(found.special) if below(path, paths)
        ]
        shown([*changed, *special], workspace.objects, stat=stat, as_json=as_json)
        workspace.collect()
    return 1 if changed or special else 0


def fetched(workspace: Workspace) -> Found:
    """What the machine has in its workspace now."""
    with terminal.progress() as progress:
        progress.step(f"reading the workspace of {workspace.name}")
        return asyncio.run(workspace.fetch(lambda _: progress.at(None)))


def shown(changed: Iterable[Difference], objects: Objects, *, stat: bool, as_json: bool) -> None:
    """Differences on standard output."""
    for one in changed:
        if as_json:
            terminal.say_json(as_builtins(one))
        elif stat:
            terminal.say(line(one))
        else:
            _write(lines(one, objects))


def _write(text: Iterator[str]) -> None:
    if sys.stdout.isatty():
        for piece in text:
            terminal.say_lines(piece.replace("\t", "    "))
        return
    sys.stdout.flush()
    for piece in text:
        sys.stdout.buffer.write(piece.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def lines(one: Difference, objects: Objects) -> Iterator[str]:
    """A difference as the lines of a patch."""
    if one.before is None and one.after is None:
        return iter([f"# neither file, directory nor link, never taken over: {one.path!r}\n"])
    contents: list[bytes | None] = []
    for node in (one.before, one.after):
        if node is None or node.kind == "directory":
            contents.append(None)
        elif node.kind == "link":
            contents.append(os.fsencode(node.target))
        else:
            contents.append(objects.read(node.digest, MAX_TEXT))
    return patch(one, *contents)


def line(one: Difference) -> str:
    """A difference in one line."""
    node = one.after or one.before
    path = overlay.shown(one.path)
    if node is None:
        return f"! {path}   never taken over"
    if one.action == "mode" and one.before is not None and one.after is not None:
        return f"m {path}  mode {one.before.mode:o} -> {one.after.mode:o}"
    end = {"directory": "/", "link": f" -> {overlay.shown(node.target)}", "file": ""}[node.kind]
    return f"{_LETTERS[one.action]} {path}{end}"


def as_builtins(one: Difference) -> dict[str, Any]:
    """A difference for programs."""
    sides = {
        side: None
        if node is None
        else dict(zip(node.__struct_fields__, msgspec.structs.astuple(node), strict=True))
        for side, node in (("before", one.before), ("after", one.after))
    }
    return {"path": one.path, "action": one.action, **sides}
