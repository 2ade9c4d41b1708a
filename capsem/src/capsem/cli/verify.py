"""`capsem verify`: check the log of a machine.

capsem verify build
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.cli.asking import RecordedName, recorded


@click.command("verify", epilog="Example: capsem verify build --strict")
@click.argument("machine", type=RecordedName())
@click.option(
    "--strict",
    is_flag=True,
    help="Exit 21 when something deserves a look: gaps, recoveries, clocks set back.",
)
@click.option("--quick", is_flag=True, help="Only the chain and the newest checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, strict: bool, quick: bool, as_json: bool) -> int:
    """Check every line, block and signature of a machine's log; of a branch, its parent's up to the moment of it, too.

    Exits as `capsule verify` does: 0 verified. Also of one that was deleted, by its id. What a machine that runs has
    recorded just now is signed within a second, which is waited for.
    """
    found, _ = recorded(machine)
    done = found.verify(*(["--strict"] if strict else []), *(["--quick"] if quick else []))
    if as_json:
        terminal.say_json({"machine": found.machine, "log": str(found.log), "code": done.code, **done.found})
    else:
        terminal.say_lines(done.said)
    return done.code
