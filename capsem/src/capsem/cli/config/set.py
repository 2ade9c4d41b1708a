"""`capsem config set`: change a setting in the user's file.

capsem config set machine.memory 1G
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.host.settings import put


@click.command("set", epilog="Example: capsem config set machine.memory 1G")
@click.argument("name")
@click.argument("value")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, name: str, value: str, as_json: bool) -> None:
    """Set NAME to VALUE for you. What the organisation's file has is locked: then nothing changes."""
    place = put(name, value)
    if as_json:
        terminal.say_json({"name": name, "value": value, "file": str(place)})
    else:
        terminal.say(f"{name} = {value}  ({place})")
