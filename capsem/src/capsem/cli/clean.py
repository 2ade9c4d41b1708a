"""`capsem clean`: remove what the rules in the settings say is old, or show what would go.

capsem clean --dry-run
"""

from __future__ import annotations

from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import ask
from capsem.host.keeping import recorded_at


@click.command("clean", epilog="Example: capsem clean --dry-run")
@click.option("--dry-run", is_flag=True, help="Remove nothing; show what would go, what stays, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, dry_run: bool, as_json: bool) -> None:
    """Remove what clean.templates, clean.images and clean.logs say is old, and what killed processes left.

    The service does it, too: when it starts, and every hour. What a machine or an image needs, a fork, and a log that
    is unfinished stay whatever the rules say. What went is recorded in logs/cleaned.jsonl.
    """
    found = ask("POST", "/clean", {"dry_run": dry_run})
    if as_json:
        terminal.say_json({**found, "record": str(recorded_at())})
        return
    if dry_run:
        rows = [_row("would go", one) for one in found["goes"]] + [
            _row("stays", one) for one in found["stays"]
        ]
    else:
        rows = [_row("removed", one) for one in found["goes"]]
    if rows:
        terminal.say_table(("", "WHAT", "NAME", "TAKES", "WHY"), rows)
    else:
        terminal.say("nothing to remove")


def _row(word: str, one: dict[str, Any]) -> tuple[str, ...]:
    why = one["why"] if one["from"] is None else f"{one['why']} ({one['from']})"
    name = one["name"][:12] if one["what"] in {"template", "image"} else one["name"]
    return word, one["what"], name, terminal.megabytes(one["bytes"]), why
