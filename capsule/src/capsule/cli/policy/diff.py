"""`capsule policy diff`: what a change of policy gives away, the most dangerous first."""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.files import load_policy
from capsule.cli.policy.access import variables_of
from capsule.cli.reference import PolicyReference
from capsule.sandbox.changes import Risk
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.diff import compare_plans


@click.command("diff", epilog="Example: capsule policy diff workspace capsule.yaml")
@click.argument("old", metavar="OLD", type=PolicyReference())
@click.argument("new", metavar="NEW", type=PolicyReference())
@click.option("--tool", metavar="NAME", help="Compare as both hold for one of their tools.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(old: str, new: str, tool: str | None, as_json: bool) -> int:
    """Compare two policies. Exits 0 when NEW gives nothing more than OLD, else 1."""
    after = load_policy(new, tool)
    changes = compare_plans(
        compile_policy(load_policy(old, tool)), compile_policy(after), variables_of(after)
    )
    wider = any(change.risk > Risk.NARROWER for change in changes)
    if as_json:
        terminal.say_json({"wider": wider, "changes": [terminal.change_json(change) for change in changes]})
    else:
        for change in changes:
            terminal.say_change(change)
        if not changes:
            terminal.say("no difference in what is granted")
    return 1 if wider else 0
