"""`capsem config`: the settings, and which file decides about each.

capsem config explain machine.memory
"""

from __future__ import annotations

import click

from capsule.cli.lazy import LazyGroup


@click.group(
    "config",
    cls=LazyGroup,
    verbs={
        "explain": ("capsem.cli.config.explain", "Say which file decides about a setting."),
        "get": ("capsem.cli.config.get", "Print a setting, or all of them."),
        "schema": ("capsem.cli.config.schema", "Print the JSON Schema for editors."),
        "set": ("capsem.cli.config.set", "Change a setting of yours."),
    },
    epilog="Example: capsem config set machine.memory 1G",
)
def command() -> None:
    """See and change settings. The organisation's file wins over yours, yours over what is built in."""
