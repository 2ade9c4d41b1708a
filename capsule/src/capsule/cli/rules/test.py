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
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Ask each rule about the events of its 'tests', and a pack about its examples.

    Exits 0 when all come out as written, else 1.
    """
    sources = load(files)
    results: list[ExampleResult | PackResult] = [
        *check_examples(sources.rules.rules),
        *_packs(sources.detections),
    ]
    failed = [result for result in results if not result.passed]
    if as_json:
        terminal.say_json({"ok": not failed, "tests": [_row(result) for result in results]})
        return 1 if failed else 0
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


def _row(result: ExampleResult | PackResult) -> dict[str, object]:
    if isinstance(result, PackResult):
        expected = "fires" if result.fires else "silent"
        return {"pack": result.pack, "rule": result.rule, "expected": expected, "passed": result.passed,
                "found": result.found}  # fmt: skip
    expected = "match" if result.example.holds else "miss"
    return {"file": result.rule.file, "line": result.example.line, "column": result.example.column,
            "rule": result.rule.id, "expected": expected, "passed": result.passed,
            "why": result.why or None}  # fmt: skip


def _packs(rules: SigmaFile) -> Iterator[PackResult]:
    files = {one.about.file for one in rules.detections}
    for pack in NAMES:
        if any(file.startswith(f"pack:{pack}/") for file in files):
            yield from check_pack(pack, [rules])
