"""Adds up the results that `scripts/test` collected and names what this host could not test.

A test that was skipped in one pass and ran in another (root and the ordinary user) counts as run.
Refuses nothing: it only reports; `scripts/test` decides the exit code.

Example: ``python scripts/test_summary.py .build/results 240 "a note"``
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

_CARGO = re.compile(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
_MESSAGE = re.compile(r"needs ([a-z0-9-]+): (.*)", re.DOTALL)


def _python(directory: Path) -> tuple[Counter[str], Counter[str], list[str]]:
    """Counts by outcome over all passes, the reasons of tests that ran in no pass, and what passed only alone."""
    counts: Counter[str] = Counter()
    ran: set[str] = set()
    skipped: dict[str, str] = {}
    alone: list[str] = []
    for path in sorted(directory.glob("*alone.xml")):
        alone.extend(
            f"{case.get('classname')}::{case.get('name')}"
            for case in ElementTree.parse(path).getroot().iter("testcase")
            if all(case.find(tag) is None for tag in ("skipped", "failure", "error"))
        )
    counts.update(passed=len(alone), failed=-len(alone))
    for path in sorted(set(directory.glob("*.xml")) - set(directory.glob("*alone.xml"))):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            skip = case.find("skipped")
            if skip is not None:
                skipped[name] = skip.get("message") or ""
                counts["skipped"] += 1
                continue
            ran.add(name)
            bad = case.find("failure") is not None or case.find("error") is not None
            counts["failed" if bad else "passed"] += 1
    reasons: Counter[str] = Counter()
    for name, message in skipped.items():
        if name not in ran:
            found = _MESSAGE.search(message)
            reasons[f"{found[1]} ({found[2]})" if found else message] += 1
    return counts, reasons, alone


def main(directory: Path, seconds: int, notes: list[str]) -> None:
    """Print the summary; its last line is `N passed, N failed, N skipped`."""
    counts, reasons, alone = _python(directory)
    cargo = directory / "rust tests.txt"
    for passed, failed, ignored in _CARGO.findall(cargo.read_text() if cargo.exists() else ""):
        counts["passed"] += int(passed)
        counts["failed"] += int(failed)
        counts["skipped"] += int(ignored)
    print(f"== summary, {seconds // 60} min {seconds % 60} s")
    for note in notes:
        print(f"not tested here: {note}")
    for reason, count in sorted(reasons.items()):
        print(f"not tested here: {count} tests need {reason}")
    for name in alone:
        print(f"passed only when it was repeated alone: {name}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
