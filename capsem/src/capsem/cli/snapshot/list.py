"""`capsem snapshot list`: a machine's snapshots.

capsem snapshot list work
"""

from __future__ import annotations

import dataclasses

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask
from capsem.host.snapshots import Snapshots
from capsem.host.workspace import Workspace


@click.command("list", epilog="Example: capsem snapshot list work")
@click.argument("machine", type=MachineName())
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, as_json: bool) -> None:
    """List a machine's snapshots, oldest first. The machine need not run."""
    workspace = Workspace.of(ask("GET", f"/machines/{machine}"), running=False)
    with workspace.held():
        found = Snapshots(workspace).list()
        kept = workspace.objects.size()
    if as_json:
        terminal.say_json({"snapshots": [dataclasses.asdict(one) for one in found], "kept_bytes": kept})
        return
    rows = [(one.name, one.created, str(one.names), terminal.megabytes(one.size)) for one in found]
    terminal.say_table(("NAME", "CREATED", "NAMES", "SIZE"), rows)
    terminal.complain([f"kept for {workspace.name}: {terminal.megabytes(kept)}, with what was copied"])
