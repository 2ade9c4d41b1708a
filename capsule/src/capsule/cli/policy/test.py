"""`capsule policy test`: does a policy decide its own examples as it says?"""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.policy.access import load_access
from capsule.cli.reference import policy_argument
from capsule.sandbox.examples import run_examples


@click.command("test", epilog="Example: capsule policy test capsule.yaml")
@policy_argument
@click.option("--tool", metavar="NAME", help="Test as the policy holds for one of its tools.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(policy: str, tool: str | None, as_json: bool) -> int:
    """Decide the policy's 'examples' and compare. Exits 0 when all come out as written, else 1."""
    resolved, access = load_access(policy, tool)
    results = run_examples(resolved, access)
    failed = [result for result in results if not result.passed]
    if as_json:
        terminal.say_json(
            {
                "ok": not failed,
                "examples": [
                    {
                        "title": result.title,
                        "passed": result.passed,
                        "file": result.example.origin.file,
                        "line": result.example.origin.line,
                        "decision": terminal.decision_json(result.decision),
                    }
                    for result in results
                ],
            }
        )
        return 1 if failed else 0
    for result in failed:
        place = terminal.near(str(result.example.origin))
        terminal.say(f"{place}: {result.title}: is {terminal.verdict(result.decision)}")
        terminal.say_decision(result.decision)
    if not results:
        terminal.say("no examples: add 'examples: {allow: [...], deny: [...]}' to the policy")
    else:
        terminal.say(f"{len(results) - len(failed)} of {len(results)} examples hold")
    return 1 if failed else 0
