"""`capsule policy check`: every problem of a policy, or what it grants in a few lines."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.files import load_policy
from capsule.cli.policy.access import variables_of
from capsule.cli.reference import policy_argument
from capsule.errors import PolicyError, Problem
from capsule.policy.merge import with_tool
from capsule.regular import NotRegularError, read_regular
from capsule.sandbox.access import Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import Plan, encode_plan
from capsule.sandbox.risks import risks

MOST_AUTHORITIES = 1 << 20
"""Bytes of a file of authorities, as a run takes them."""


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
        _check_authorities(plans, variables_of(resolved))
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
    warnings += dict.fromkeys(note for one in plans for note in _bare(one, variables_of(resolved)))
    warnings += _absent(plan, variables_of(resolved))
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


def _bare(plan: Plan, variables: Variables) -> list[str]:
    """Programs that name a file of the workspace which is not there: most likely a name of PATH was meant."""
    notes = []
    for program in plan.process.programs or ():
        name = program.path.removeprefix("${workspace}/")
        if name == program.path or "/" in name or Path(variables.path(program.path)).exists():
            continue
        found = shutil.which(name)
        notes.append(
            f"{terminal.near(program.origin.file)}:{program.origin.line}: process.programs: {name!r} is the file "
            f"./{name} of the workspace, which is not there; "
            + (f"did you mean {found}?" if found else "name a program by its absolute path")
        )
    return notes


def _absent(plan: Plan, variables: Variables) -> list[str]:
    """The authorities that are named and not there: a run would be refused."""
    egress = plan.network.egress
    return [
        f"{terminal.near(grant.origin.file)}:{grant.origin.line}: the authorities of {terminal.near(path)} do not "
        "exist here: a run is refused; put the file there, or say 'optional: true'"
        for grant in (egress.authorities if egress is not None else ())
        if not grant.optional and not Path(path := variables.path(grant.path)).is_file()
    ]


def _check_authorities(plans: list[Plan], variables: Variables) -> None:
    """Those that are there and through which nobody can be trusted: a run would be refused."""
    named = {
        grant.path: grant
        for plan in plans
        for grant in (plan.network.egress.authorities if plan.network.egress else ())
    }
    problems = []
    for grant in named.values():
        # Only policies with authorities pay for the import of what reads certificates.
        from capsule.egress.trust import SOUND, unsound

        path = Path(variables.path(grant.path))
        if not path.exists():
            continue  # that is for `_absent` to say
        try:
            pem = read_regular(path, most=MOST_AUTHORITIES)
            problem = (
                unsound(pem) if len(pem) <= MOST_AUTHORITIES else f"is over {MOST_AUTHORITIES} bytes long"
            )
        except NotRegularError:
            problem = "is not a regular file"
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        if problem is not None:
            origin = grant.origin
            problems.append(
                Problem(
                    origin.file,
                    origin.line,
                    origin.column,
                    f"network.authorities: {terminal.near(str(path))} {problem}",
                    "certificates of authorities",
                    next_step=SOUND,
                )
            )
    if problems:
        raise PolicyError(problems)


def _check_rules(plan: Plan, reference: str) -> None:
    """Rules that do not compile would deny everything: they make the policy one that cannot be used."""
    egress = plan.network.egress
    if egress is not None and (egress.rules or egress.detect):
        # Only policies with rules pay for the import of what evaluates them.
        from capsule.cli.rules.sources import load

        load([reference])
