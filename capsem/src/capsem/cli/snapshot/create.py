"""`capsem snapshot create`: keep what a machine's workspace has now.

capsem snapshot create work before
"""

from __future__ import annotations

import asyncio
import dataclasses

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask
from capsem.host.snapshots import Snapshots
from capsem.host.workspace import Workspace


@click.command("create", epilog="Example: capsem snapshot create work before")
@click.argument("machine", type=MachineName())
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, name: str | None, as_json: bool) -> None:
    """Keep what a machine's workspace has now, under NAME, or s1, s2 and so on."""
    workspace = Workspace.of(ask("GET", f"/machines/{machine}"))
    with workspace.held(), terminal.progress() as progress:
        progress.step(f"reading the workspace of {workspace.name}")
        made = asyncio.run(Snapshots(workspace).create(name))
    if as_json:
        terminal.say_json(dataclasses.asdict(made))
    else:
        terminal.say(f"{made.name}  {made.names} names  {terminal.megabytes(made.size)}")
