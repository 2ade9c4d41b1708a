"""`capsule rules test`: do rules hold for what their own tests say, and for nothing else of it?"""

from __future__ import annotations

from collections.abc import Iterator

import click

from capsule.cli import terminal
from capsule.cli.rules.sources import files_argument, load
from capsule.rules.detection.examples import PackResult, check_pack
from capsule.rules.detection.model import SigmaFile
from capsule.rules.detection.packs import NAMES
from capsule.rules.testing import ExampleResult, check_examples


@click.command("test", epilog="Example: capsule rules test rules.yaml")
@files_argument
def command(files: tuple[str, ...]) -> int:
    """Ask each rule about the events of its 'tests', and a pack about its examples.

    Exits 0 when all come out as written, else 1.
    """
    sources = load(files)
    results: list[ExampleResult | PackResult] = [
        *check_examples(sources.rules.rules),
        *_packs(sources.detections),
    ]
    failed = [result for result in results if not result.passed]
    for result in failed:
        terminal.say(terminal.near(str(result)))
    if results:
        terminal.say(f"{len(results) - len(failed)} of {len(results)} tests pass")
    elif sources.detections.detections and not len(sources.rules):
        count = len(sources.detections.detections) + len(sources.detections.correlations)
        terminal.say(
            f"no tests: {count} Sigma rules compile, and their form has no place for tests; "
            "`capsule hunt` asks them about what was recorded"
        )
    else:
        terminal.say("no tests: add 'tests: {match: [...], miss: [...]}' to a rule")
    return 1 if failed else 0


def _packs(rules: SigmaFile) -> Iterator[PackResult]:
    files = {one.about.file for one in rules.detections}
    for pack in NAMES:
        if any(file.startswith(f"pack:{pack}/") for file in files):
            yield from check_pack(pack, [rules])
