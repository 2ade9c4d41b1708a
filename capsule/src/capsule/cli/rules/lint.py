"""`capsule rules lint`: what is probably not meant."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click

from capsule.cli import terminal
from capsule.cli.rules.sources import files_argument, load
from capsule.rules.lint import lint


@dataclass(frozen=True, slots=True)
class _Remark:
    file: str
    line: int
    rule: str
    what: str
    next_step: str


@click.command("lint", epilog="Example: capsule rules lint rules.yaml")
@files_argument
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Remark on rules that never decide, conflict, or may miss a field. Exits 0 without remarks, else 1."""
    sources = load(files)
    remarks = [
        _Remark(remark.rule.file, remark.rule.line, remark.rule.id, remark.what, remark.next_step)
        for remark in lint(sources.rules.rules)
    ]
    for one in sources.detections.detections:
        if not one.branches:
            about = one.about
            never = ", ".join(one.unrecorded)
            what = f"can never fire: events never have {never}"
            remarks.append(_Remark(about.file, about.line, about.id, what, "leave it out"))
    count = len(sources.rules) + len(sources.detections.detections) + len(sources.detections.correlations)
    if as_json:
        told = [asdict(remark) for remark in remarks]
        terminal.say_json({"ok": not remarks, "rules": count, "remarks": told})
        return 1 if remarks else 0
    for remark in remarks:
        terminal.say(
            terminal.near(
                f"{remark.file}:{remark.line}: rule {remark.rule}: {remark.what}; {remark.next_step}"
            )
        )
    terminal.say(f"{count} rules compile, {len(remarks)} remarks")
    return 1 if remarks else 0
