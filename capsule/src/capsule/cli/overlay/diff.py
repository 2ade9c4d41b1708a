"""`capsule diff`: what a run under `--overlay` would change on the host."""

from __future__ import annotations

import collections
import json
import os
import sys
from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.overlay import overlays
from capsule.cli.overlay.show import as_json, summary, unified


@click.command("diff", epilog="Example: capsule diff --stat")
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--stat", is_flag=True, help="One line for each name.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON, one change a line.")
@click.option("--raw", is_flag=True, help="Contents as they are: escape sequences reach the terminal.")
@click.option("--list", "list_", is_flag=True, help="List the runs that have an overlay.")
def command(run: str | None, stat: bool, json_: bool, raw: bool, list_: bool) -> int:
    """Show what a run with an overlay wrote (the newest run, or RUN). Exits 1 when something changed, else 0."""
    kept, here = overlays(), str(Path.cwd())
    if list_:
        for name in kept.runs():
            terminal.say(name)
        return 0
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    seen: collections.Counter[str] = collections.Counter()
    with kept.hold(run) as overlay:
        for root, change in overlay.changes():
            seen[change.action] += 1
            if json_:
                sys.stdout.write(json.dumps(as_json(root, change), sort_keys=True) + "\n")
            elif stat:
                terminal.say(summary(root, change, here))
            else:
                upper = overlay.directory / str(root.layer) / "upper"
                for line in unified(root, upper, change, here, raw=raw, colour=colour):
                    sys.stdout.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
        if not json_ and (stat or not seen):
            counts = (
                ", ".join(f"{count} {action}" for action, count in sorted(seen.items())) or "nothing changed"
            )
            terminal.say(f"{overlay.manifest.run}: {counts}")
    return 1 if seen else 0
