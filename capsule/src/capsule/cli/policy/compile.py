"""`capsule policy compile`: a policy or preset → the plan, or a Seatbelt profile, on standard output."""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.files import load_policy
from capsule.cli.policy.access import variables_of
from capsule.cli.reference import policy_argument
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import encode_plan
from capsule.sandbox.seatbelt import compile_seatbelt


@click.command("compile", epilog="Example: capsule policy compile workspace")
@policy_argument
@click.option("--tool", metavar="NAME", help="Compile for one of the policy's tools.")
@click.option(
    "--target", type=click.Choice(["plan", "seatbelt"]), default="plan", help="What to print (plan)."
)
@click.option("--json", "as_json", is_flag=True, help="Accepted for symmetry: a plan is JSON already.")
def command(policy: str, tool: str | None, target: str, as_json: bool) -> None:
    """Print the plan the launcher enforces, as one line of canonical JSON, or a macOS Seatbelt profile."""
    resolved = load_policy(policy, tool)
    plan = compile_policy(resolved)
    if target == "plan":
        terminal.say_bytes(encode_plan(plan))
    elif as_json:
        terminal.say_json({"seatbelt": compile_seatbelt(plan, variables_of(resolved))})
    else:
        terminal.say_lines(compile_seatbelt(plan, variables_of(resolved)))
