"""Results as text: one line an attack, the reason below it where one is needed, never wider than asked. Pure.

for line in lines(result, width=80, colour=False):
    print(line)
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from capsule.attack.case import Case, Result, Verdict

COLOURS = {Verdict.PASS: "32", Verdict.FAIL: "1;31", Verdict.INCONCLUSIVE: "33"}
SHOWN = {Verdict.PASS: "pass", Verdict.FAIL: "FAIL", Verdict.INCONCLUSIVE: "?"}
ID_WIDTH = 29


def paint(text: str, code: str, colour: bool) -> str:
    """Text in a colour of the terminal, or as it is."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def lines(result: Result, *, width: int = 80, colour: bool = False) -> list[str]:
    """One result: verdict, id and title; for anything but a pass, why."""
    mark = paint(f"{SHOWN[result.verdict]:4}", COLOURS[result.verdict], colour)
    room = max(10, width - ID_WIDTH - 6)
    text = [
        f"{mark} {result.case.id:{ID_WIDTH}} {textwrap.shorten(result.case.title, room, placeholder='…')}"
    ]
    if result.verdict is not Verdict.PASS:
        text += textwrap.wrap(
            printable(result.why), width - 5, initial_indent="     ", subsequent_indent="     "
        )
    return text


def listing(cases: Sequence[Case], *, width: int = 80) -> list[str]:
    """The corpus without running it: id, title, who fell to it."""
    text = []
    for case in cases:
        text.append(f"{case.id:{ID_WIDTH}} {case.title}"[:width])
        if case.source:
            text.append(" " * (ID_WIDTH + 1) + case.source[: width - ID_WIDTH - 1])
    return text


def summary(results: Sequence[Result], seconds: float, *, colour: bool = False) -> str:
    """The last line: how many of each, and how long it took."""
    counts = Counter(result.verdict for result in results)
    parts = [
        paint(f"{counts[verdict]} {name}", COLOURS[verdict], colour and counts[verdict] > 0)
        for verdict, name in (
            (Verdict.PASS, "held"),
            (Verdict.FAIL, "FAILED"),
            (Verdict.INCONCLUSIVE, "inconclusive"),
        )
    ]
    return f"{len(results)} attacks: {', '.join(parts)}, in {seconds:.0f} s"


def document(results: Sequence[Result], *, policy: str, seconds: float) -> Mapping[str, object]:
    """The answer for programs; `attack` is the version of this form."""
    counts = Counter(result.verdict for result in results)
    return {
        "attack": 1,
        "policy": policy,
        "seconds": round(seconds * 1000) / 1000,
        "counts": {verdict.value: counts[verdict] for verdict in Verdict},
        "results": [
            {
                "id": result.case.id,
                "number": result.case.number,
                "family": result.case.family,
                "title": result.case.title,
                "source": result.case.source or None,
                "verdict": result.verdict.value,
                "why": result.why,
                "seconds": round(result.seconds * 1000) / 1000,
            }
            for result in results
        ],
    }


def exit_code(results: Sequence[Result]) -> int:
    """0 when nothing failed and something held; 1 when something failed; 3 when nothing was learnt."""
    verdicts = {result.verdict for result in results}
    if Verdict.FAIL in verdicts:
        return 1
    return 0 if Verdict.PASS in verdicts else 3


def printable(text: str) -> str:
    """Text from a run, without anything that could drive the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
