"""`capsem history`: what happened to a machine, from its log; also of one that was deleted, by its id.

capsem history build
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.cli.asking import RecordedName, ask


@click.command("history", epilog="Example: capsem history build")
@click.argument("machine", type=RecordedName())
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, as_json: bool) -> None:
    """Show what happened to a machine: starts, ends, copies, commands, files.

    A machine that was deleted has a history, too, under its whole id. Its log is the evidence: capsule verify.
    """
    found = ask("GET", f"/machines/{machine}/history")
    if as_json:
        terminal.say_json(found)
        return
    terminal.say_table(
        ("TIME", "WHAT", "OUTCOME", "DETAIL"),
        ((one["time"][:19] + "Z", one["what"], one["outcome"] or "-", one["detail"]) for one in found),
    )
