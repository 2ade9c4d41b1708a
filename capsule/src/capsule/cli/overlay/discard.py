"""`capsule discard`: throw away what a run under `--overlay` wrote."""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.overlay import overlays


@click.command("discard", epilog="Example: capsule discard")
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--all", "all_", is_flag=True, help="Every overlay that is not in use.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def command(run: str | None, all_: bool, json_: bool) -> int:
    """Throw away the overlay of a run (the newest run, or RUN)."""
    kept = overlays()
    thrown = []
    for name in kept.runs() if all_ else [run]:
        thrown.append(kept.discard(name))
        if not json_:
            terminal.say(f"{thrown[-1]}: thrown away")
    if json_:
        terminal.say_json({"thrown_away": thrown})
    return 0
