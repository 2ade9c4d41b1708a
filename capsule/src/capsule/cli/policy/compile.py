"""`capsule policy compile`: a policy or preset → the canonical plan on standard output."""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.files import load_policy
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import encode_plan


@click.command("compile", epilog="Example: capsule policy compile workspace")
@click.argument("policy", metavar="FILE_OR_PRESET")
@click.option("--tool", metavar="NAME", help="Compile for one of the policy's tools.")
def command(policy: str, tool: str | None) -> None:
    """Print the plan the launcher enforces, as one line of canonical JSON."""
    terminal.say_bytes(encode_plan(compile_policy(load_policy(policy, tool))))
