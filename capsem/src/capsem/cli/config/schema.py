"""`capsem config schema`: the JSON Schema of the settings, for editors.

capsem config schema > settings.schema.json
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.vm.settings import schema


@click.command("schema", epilog="Example: capsem config schema > settings.schema.json")
@click.option("--json", "as_json", is_flag=True, help="Print it as one line.")
def command(*, as_json: bool) -> None:
    """Print the JSON Schema (2020-12) of settings. It is advice for editors; what reads the files decides."""
    if as_json:
        terminal.say_json(schema())
    else:
        terminal.say_indented(schema())
