"""`capsule policy accept`: let a policy that lies in a directory grant more than the preset `workspace` there.

Refuses presets, which need nobody's word.
"""

from __future__ import annotations

from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.accepted import accept, is_accepted, revoke
from capsule.cli.files import DEFAULT_PRESET, load_policy
from capsule.cli.policy.access import variables_of
from capsule.cli.reference import policy_argument
from capsule.errors import UsageError
from capsule.policy.parser import is_preset_name
from capsule.sandbox.acceptance import beyond
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import encode_plan


@click.command("accept", epilog="Example: capsule policy accept")
@policy_argument
@click.option("--tool", metavar="NAME", help="Accept it as it holds for one of its tools.")
@click.option("--check", is_flag=True, help="Accept nothing: exit 1 when it needs to be and is not.")
@click.option("--revoke", "forget", is_flag=True, help="Take an acceptance back.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(policy: str, tool: str | None, check: bool, forget: bool, as_json: bool) -> int:
    """Let a policy that `capsule run` finds here grant what it grants beyond the preset workspace.

    It holds for this file at this place as it is now, with all that it extends: after a change it is asked again. A
    policy that is named (capsule run --policy FILE) needs no acceptance.
    """
    if is_preset_name(policy) and not Path(policy).is_file():
        raise UsageError(
            f"{policy} is a preset: it needs no acceptance",
            next_step="name a file, or none for the one found here",
        )
    resolved = load_policy(policy, tool)
    plan = compile_policy(resolved)
    text = encode_plan(plan)
    changes = beyond(compile_policy(load_policy(DEFAULT_PRESET)), plan, variables_of(resolved))
    if forget:
        known = revoke(text)
    else:
        known = is_accepted(text)
        if not known and not (check and changes):
            # With --check too, when there is nothing to accept: the next run need not ask.
            accept(text, Path(policy))
    if as_json:
        rows = [terminal.change_json(change) for change in changes]
        terminal.say_json({"policy": policy, "accepted": not forget and is_accepted(text), "beyond": rows})
    else:
        for change in changes:
            terminal.say_change(change)
        if not check:
            terminal.say(_verdict(terminal.near(policy), forget=forget, known=known, wider=bool(changes)))
    return 1 if check and changes and not known else 0


def _verdict(policy: str, *, forget: bool, known: bool, wider: bool) -> str:
    if forget:
        return f"{policy}: no longer accepted" if known else f"{policy}: was not accepted"
    if not wider:
        return f"{policy}: grants nothing that needs acceptance"
    return (
        f"{policy}: accepted already"
        if known
        else f"{policy}: accepted; capsule run uses it here until it changes"
    )
