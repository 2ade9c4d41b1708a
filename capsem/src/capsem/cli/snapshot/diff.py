"""`capsem snapshot diff`: what changed between two snapshots, or since one.

capsem snapshot diff work before
"""

from __future__ import annotations

import click

from capsem.cli.asking import MachineName, ask
from capsem.cli.diff import fetched, shown
from capsem.host.snapshots import Snapshots
from capsem.host.workspace import Workspace
from capsem.workspace.tree import differences


@click.command("diff", epilog="Example: capsem snapshot diff work before after")
@click.argument("machine", type=MachineName())
@click.argument("before")
@click.argument("after", required=False)
@click.option("--stat", is_flag=True, help="One line for each name.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each name.")
def command(*, machine: str, before: str, after: str | None, stat: bool, as_json: bool) -> int:
    """Show what changed from snapshot BEFORE to AFTER, or to what the machine has now. Exits 1 when something did."""
    workspace = Workspace.of(ask("GET", f"/machines/{machine}"), running=after is None)
    with workspace.held():
        snapshots = Snapshots(workspace)
        one = snapshots.tree(before)
        two = fetched(workspace).tree if after is None else snapshots.tree(after)
        changed = differences(one, two)
        shown(changed, workspace.objects, stat=stat, as_json=as_json)
        workspace.collect()
    return 1 if changed else 0
