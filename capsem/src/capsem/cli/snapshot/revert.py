"""`capsem snapshot revert`: put a machine's workspace back.

capsem snapshot revert work before
"""

from __future__ import annotations

import asyncio

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask
from capsem.host.snapshots import Snapshots
from capsem.host.workspace import Workspace


@click.command("revert", epilog="Example: capsem snapshot revert work base")
@click.argument("machine", type=MachineName())
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, name: str, as_json: bool) -> None:
    """Make a machine's workspace what the snapshot NAME has; `base` is what was copied into it.

    What the machine has now is lost, unless it is in a snapshot. The directory on the host does not change.
    """
    workspace = Workspace.of(ask("GET", f"/machines/{machine}"))
    with workspace.held(), terminal.progress() as progress:
        progress.step(f"putting {name} back into {workspace.name}")
        names = asyncio.run(Snapshots(workspace).revert(name))
    if as_json:
        terminal.say_json({"name": name, "names": names})
    else:
        terminal.say(f"{workspace.name} has {name} again: {names} names")
