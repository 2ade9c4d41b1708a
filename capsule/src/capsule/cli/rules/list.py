"""`capsule rules list`: what decides, in which order, and what only notices."""

from __future__ import annotations

import click

from capsule.cli import terminal
from capsule.cli.rules.sources import Sources, files_argument, load


@click.command("list", epilog="Example: capsule rules list rules.yaml agents")
@files_argument
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Show rules in the order in which they decide, then detections."""
    sources = load(files)
    if as_json:
        terminal.say_json(_rows(sources))
        return 0
    for one in sources.rules.rules:
        rule = one.rule
        place = f"{terminal.near(rule.file)}:{rule.line}"
        terminal.say(f"{rule.priority:>5}  {rule.action:<8} {','.join(rule.on):<14} {rule.id}  ({place})")
        if rule.reason:
            terminal.say(f"{'':>7}{' '.join(rule.reason.split())}")
    for detection in sources.detections.detections:
        about = detection.about
        if detection.alone:
            kinds = ",".join(detection.branches) or "can never fire"
            place = f"{terminal.near(about.file)}:{about.line}"
            terminal.say(f"{about.level:>13}  {kinds:<14} {about.id}: {about.title}  ({place})")
    for correlation in sources.detections.correlations:
        about = correlation.about
        place = f"{terminal.near(about.file)}:{about.line}"
        terminal.say(f"{about.level:>13}  {correlation.kind:<14} {about.id}: {about.title}  ({place})")
    if not len(sources.rules) and not sources.detections.detections:
        terminal.say("no rules: add 'rules: [./rules.yaml]' or 'detect: [agents]' to the policy")
    return 0


def _rows(sources: Sources) -> dict[str, object]:
    rules = [
        {**one.ref.record(), "on": one.rule.on, "action": one.rule.action, "reason": one.rule.reason or None}
        for one in sources.rules.rules
    ]
    found = sources.detections
    detections = [
        {"id": one.about.id, "title": one.about.title, "level": one.about.level, "types": list(one.branches),
         "file": one.about.file, "line": one.about.line, "unrecorded": list(one.unrecorded), "alone": one.alone}
        for one in found.detections
    ]  # fmt: skip
    correlations = [
        {"id": one.about.id, "title": one.about.title, "level": one.about.level, "kind": one.kind,
         "file": one.about.file, "line": one.about.line, "rules": list(one.detections)}
        for one in found.correlations
    ]  # fmt: skip
    return {"rules": rules, "detections": detections, "correlations": correlations}
