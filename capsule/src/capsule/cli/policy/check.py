"""`capsule policy check`: every problem of a policy, or what it grants in a few lines."""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.files import load_policy
from capsule.cli.reference import policy_argument
from capsule.errors import PolicyError
from capsule.policy.merge import with_tool
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import Plan, encode_plan
from capsule.sandbox.risks import risks


@click.command("check", epilog="Example: capsule policy check capsule.yaml")
@policy_argument
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(policy: str, as_json: bool) -> int:
    """Say whether a policy can be used, what is wrong with it, and what it gives away. Exits 0 or 2."""
    try:
        resolved = load_policy(policy)
        plan = compile_policy(resolved)
        plans = [plan, *(compile_policy(with_tool(resolved, tool)) for tool in resolved.tools)]
        for one in plans:
            encode_plan(one)
        _check_rules(plan, policy)
    except PolicyError as error:
        if not as_json:
            raise
        terminal.say_json(
            {
                "ok": False,
                "warnings": [],
                "problems": [terminal.problem_json(problem) for problem in error.problems],
            }
        )
        return error.exit_code
    warnings = [] if plan.filesystem.execute else [terminal.GRANTS_NOTHING]
    warnings += dict.fromkeys(terminal.near(str(remark)) for one in plans for remark in risks(one))
    if as_json:
        good = {
            "ok": True,
            "problems": [],
            "warnings": warnings,
            "name": plan.name,
            "digest": plan.policy.digest,
        }
        terminal.say_json(good)
    else:
        terminal.say(f"{plan.name}: good ({len(plan.policy.sources)} sources, {plan.policy.digest})")
        for warning in warnings:
            terminal.say(f"note: {warning}")
    return 0


def _check_rules(plan: Plan, reference: str) -> None:
    """Rules that do not compile would deny everything: they make the policy one that cannot be used."""
    egress = plan.network.egress
    if egress is not None and (egress.rules or egress.detect):
        # Only policies with rules pay for the import of what evaluates them.
        from capsule.cli.rules.sources import load

        load([reference])
