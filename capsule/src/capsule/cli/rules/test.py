"""`capsule rules test`: do rules hold for what their own tests say, and for nothing else of it?"""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.rules.sources import files_argument, load
from capsule.rules.testing import check_examples


@click.command("test", epilog="Example: capsule rules test rules.yaml")
@files_argument
def command(files: tuple[str, ...]) -> int:
    """Ask each rule about the events of its 'tests'. Exits 0 when all come out as written, else 1."""
    results = check_examples(load(files).rules.rules)
    failed = [result for result in results if not result.passed]
    for result in failed:
        terminal.say(terminal.near(str(result)))
    if results:
        terminal.say(f"{len(results) - len(failed)} of {len(results)} tests pass")
    else:
        terminal.say("no tests: add 'tests: {match: [...], miss: [...]}' to a rule")
    return 1 if failed else 0
