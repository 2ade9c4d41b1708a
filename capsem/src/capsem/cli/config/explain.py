"""`capsem config explain`: which file decides about a setting, and which do not count.

capsem config explain machine.memory
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.host.settings import load


@click.command("explain", epilog="Example: capsem config explain machine.memory")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, name: str, as_json: bool) -> None:
    """Say what NAME is for, what it is, which file decides, and what does not count."""
    found = load().of(name)
    if as_json:
        over = [{"from": place, "value": value} for place, value in found.passed_over]
        terminal.say_json({
            "name": name, "about": found.key.about, "value": found.value, "from": found.place,
            "locked": found.locked, "passed_over": over,
        })  # fmt: skip
        return
    terminal.say(f"{name} = {found.value}: {found.key.about}")
    terminal.say(f"  decided by {found.place}" + (", which locks it" if found.locked else ""))
    for place, value in found.passed_over:
        terminal.say(f"  passed over: {value} of {place}")
