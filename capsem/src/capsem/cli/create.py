"""`capsem create`: a machine that stays until it is deleted.

capsem create -n build --memory 1G --disk 4G
"""

from __future__ import annotations

import asyncio
from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import machine_body, machine_options, made
from capsem.cli.ends import without_disk


@click.command("create", epilog="Example: capsem create -n build --workspace .")
@click.option("-n", "--name", help="Its name; with one it outlives its stop.")
@machine_options
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, name: str | None, as_json: bool, **options: Any) -> None:
    """Make a machine and start it.

    Prints its name or id. Without a name it is temporary: when it stops it is gone. With `--disk none`, what is
    written in it is in its memory, and is gone when it stops.
    """
    machine = asyncio.run(made(machine_body(**options, name=name)))
    if as_json:
        terminal.say_json(machine)
    else:
        terminal.say(machine["name"] or machine["id"])
    without_disk(machine)
