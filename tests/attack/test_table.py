"""Results as text and as JSON."""

from __future__ import annotations

import pytest

from capsule.attack import table
from capsule.attack.case import Case, Result, Verdict


def result(verdict: Verdict, why: str = "why") -> Result:
    case = Case("fs.x", 3, "a title that goes on and on " * 5, lambda _: None, lambda _: None, source="CVE-1")
    return Result(case, verdict, why, 0.25)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_no_line_is_wider_than_asked(verdict: Verdict) -> None:
    text = table.lines(result(verdict, "a long reason " * 20), width=80)
    assert max(map(len, text)) <= 80
    assert (len(text) == 1) is (verdict is Verdict.PASS)


def test_colour_only_where_asked() -> None:
    assert "\x1b[" in table.lines(result(Verdict.FAIL), colour=True)[0]
    assert "\x1b" not in "".join(table.lines(result(Verdict.FAIL, "evil \x1b[2J")))


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([Verdict.PASS, Verdict.INCONCLUSIVE], 0),
        ([Verdict.PASS, Verdict.FAIL], 1),
        ([Verdict.INCONCLUSIVE], 3),
        ([], 3),
    ],
)
def test_exit_code(verdicts: list[Verdict], code: int) -> None:
    assert table.exit_code([result(verdict) for verdict in verdicts]) == code


def test_summary_and_document() -> None:
    results = [result(Verdict.PASS), result(Verdict.FAIL)]
    assert table.summary(results, 12.3) == "2 attacks: 1 held, 1 FAILED, 0 inconclusive, in 12 s"
    answer = table.document(results, policy="workspace", seconds=1.0)
    assert answer["counts"] == {"PASS": 1, "FAIL": 1, "INCONCLUSIVE": 0}
    assert table.listing([results[0].case])[1].strip() == "CVE-1"
