"""`capsule policy schema`: the JSON Schema of policies, for editors."""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.policy.presets import NAMES
from capsule.policy.schema import policy_schema
from capsule.sandbox.syscalls import groups


@click.command("schema", epilog="Example: capsule policy schema > capsule.schema.json")
@click.option("--json", "as_json", is_flag=True, help="Accepted for symmetry: a schema is JSON already.")
def command(as_json: bool) -> None:
    """Print the JSON Schema (2020-12) of policies. It is advice for editors; the parser decides."""
    granted = [name for name, group in groups().items() if group.kind == "grant"]
    terminal.say_schema(policy_schema(NAMES, granted), compact=as_json)
