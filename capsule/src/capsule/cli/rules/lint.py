"""`capsule rules lint`: what is probably not meant."""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.rules.sources import files_argument, load
from capsule.rules.lint import lint


@click.command("lint", epilog="Example: capsule rules lint rules.yaml")
@files_argument
def command(files: tuple[str, ...]) -> int:
    """Remark on rules that never decide, conflict, or may miss a field. Exits 0 without remarks, else 1."""
    sources = load(files)
    remarks = [str(remark) for remark in lint(sources.rules.rules)]
    for one in sources.detections.detections:
        if not one.branches:
            about = one.about
            never = ", ".join(one.unrecorded)
            remarks.append(
                f"{about.file}:{about.line}: rule {about.id}: can never fire: events never have {never}; leave it out"
            )
    for remark in remarks:
        terminal.say(terminal.near(remark))
    count = len(sources.rules) + len(sources.detections.detections) + len(sources.detections.correlations)
    terminal.say(f"{count} rules compile, {len(remarks)} remarks")
    return 1 if remarks else 0
