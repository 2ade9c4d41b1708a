"""`capsule doctor`: what this host enforces, why not, and the line that would change it.

It refuses to guess: every answer was tried a moment ago, in a child process.

    capsule doctor --policy capsule.yaml
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.files import policy_in_force
from capsule.doctor.facts import measure
from capsule.doctor.verdicts import Guarantee, State, judge, worst
from capsule.sandbox.launcher import find_binary

COLOURS = {State.ENFORCED: "32", State.PARTIAL: "33", State.UNAVAILABLE: "1;31"}


def lines(guarantee: Guarantee, *, width: int, colour: bool) -> list[str]:
    """One guarantee: state, name, why; and the fix below it."""
    mark = f"{guarantee.state:11}"
    if colour:
        mark = f"\x1b[{COLOURS[guarantee.state]}m{mark}\x1b[0m"
    indent = " " * 37
    why = textwrap.wrap(guarantee.why, width - 37)
    text = [f"{mark} {guarantee.name:24} {why[0] if why else ''}"]
    text += [indent + line for line in why[1:]]
    if guarantee.fix:
        text += textwrap.wrap(
            "fix: " + guarantee.fix, width - 12, initial_indent=" " * 12, subsequent_indent=" " * 17,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return text


@click.command(
    "doctor",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: capsule doctor --policy capsule.yaml",
)
@click.option("--policy", metavar="FILE_OR_PRESET", help="The policy to try; that of a run here when absent.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(policy: str | None, as_json: bool) -> int:
    """Say what this host can enforce. Exits 0, or 1 when a guarantee is unavailable."""
    reference = policy_in_force(policy, Path.cwd())
    facts = measure(capsule=str(find_binary()), policy=reference)
    guarantees = judge(facts)
    if as_json:
        terminal.say_json(
            {
                "doctor": 1,
                "policy": reference,
                "host": {"system": facts.system, "machine": facts.machine, "release": facts.release},
                "guarantees": [dataclasses.asdict(guarantee) for guarantee in guarantees],
            }
        )
    else:
        width = min(100, shutil.get_terminal_size((80, 24)).columns)
        for guarantee in guarantees:
            terminal.say_painted(lines(guarantee, width=width, colour=sys.stdout.isatty()))
    return 1 if worst(guarantees) is State.UNAVAILABLE else 0
