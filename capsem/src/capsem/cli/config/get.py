"""`capsem config get`: a setting, or all of them.

capsem config get machine.memory
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.host.settings import load


@click.command("get", epilog="Example: capsem config get machine.memory")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, name: str | None, as_json: bool) -> None:
    """Print what NAME is, or every setting with its place."""
    settings = load()
    if name is not None:
        found = settings.of(name)
        if as_json:
            terminal.say_json({found.key.name: found.value})
        else:
            terminal.say(str(found.value))
        return
    if as_json:
        terminal.say_json({one.key.name: one.value for one in settings.all()})
        return
    rows = [
        (one.key.name, str(one.value), one.place + (" (locked)" if one.locked else ""))
        for one in settings.all()
    ]
    terminal.say_table(("SETTING", "VALUE", "FROM"), rows)
