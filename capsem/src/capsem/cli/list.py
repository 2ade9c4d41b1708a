"""`capsem list`: the machines of this user.

capsem list --json
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.cli.asking import ask
from capsem.host.usage import of_machine


@click.command("list", epilog="Example: capsem list --json")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, as_json: bool) -> None:
    """List machines, the oldest first. ON DISK is what a machine takes on this host's disk, its log included."""
    machines = ask("GET", "/machines")
    for one in machines:
        one["disk_bytes"] = of_machine(one["id"])
    if as_json:
        terminal.say_json(machines)
        return
    if not machines:
        terminal.say("no machines; make one with capsem create")
        return
    terminal.say_table(
        ("ID", "NAME", "IMAGE", "STATE", "MEMORY", "ON DISK", "CREATED"),
        (
            (
                one["id"],
                one["name"] or "-",
                one["image"],
                one["state"],
                f"{one['memory_mib']} MiB",
                terminal.megabytes(one["disk_bytes"]),
                one["created"][:19] + "Z",
            )
            for one in machines
        ),
    )
    terminal.complain(
        f"{one['name'] or one['id']} {one['state']}: {one['problem']}; {one['next_step']}"
        for one in machines
        if one["problem"] and one["next_step"]
    )
