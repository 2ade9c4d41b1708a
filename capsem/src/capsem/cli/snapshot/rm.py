"""`capsem snapshot rm`: remove a snapshot.

capsem snapshot rm work before
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask
from capsem.host.snapshots import Snapshots
from capsem.host.workspace import Workspace


@click.command("rm", epilog="Example: capsem snapshot rm work before")
@click.argument("machine", type=MachineName())
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, name: str, as_json: bool) -> None:
    """Remove a snapshot, and the contents that nothing else has. The machine need not run."""
    workspace = Workspace.of(ask("GET", f"/machines/{machine}"), running=False)
    with workspace.held():
        freed = Snapshots(workspace).remove(name)
    if as_json:
        terminal.say_json({"name": name, "freed_bytes": freed})
    else:
        terminal.say(f"{name} removed, {terminal.megabytes(freed)} freed")
