"""The page of the benchmarks begins with what was aimed at, and says of each whether the results met it."""

from __future__ import annotations

import json

from benchmarks import targets
from benchmarks.measure import RESULTS
from tests.architecture.sources import ROOT


def documents() -> dict[str, dict[str, object]]:
    return {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}


def test_the_table_is_that_of_the_results() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    rows = targets.judge(documents())
    assert "\n".join(targets.table(rows)) in page
    assert page.index("| what | target |") < page.index("Repeat with")
    assert (ROOT / "docs/benchmark-targets.svg").read_text(encoding="utf-8").count("<rect") > 15
    assert sum(row.met is not None for row in rows) >= 20


def test_what_was_not_measured_is_not_met() -> None:
    rows = targets.judge({})
    assert {row.met for row in rows} == {None}
    assert {row.margin for row in rows} == {None}
    assert "not measured" in targets.table(rows)[2]


def test_a_bound_is_met_from_its_side() -> None:
    (most, least) = (targets.Target("x", 10, most, "ms", lambda _: 5.0) for most in (True, False))
    assert targets.Judged(most, 5.0).met is True
    assert targets.Judged(least, 5.0).met is False
    assert targets.Judged(most, 20.0).met is False
    assert targets.Judged(most, 6.0, 5.0).above == 120
    assert targets.Judged(most, 6.0).above is None
    assert targets.Judged(most, None, 5.0).above is None
    assert "| 5 ms | 120 % |" in targets.table([targets.Judged(most, 6.0, 5.0)])[2]
    assert (targets.Judged(most, 5.0).margin, targets.Judged(least, 5.0).margin) == (2.0, 0.5)
    assert targets.written(12345.6, "") == "12 346"
    assert targets.written(0.6, "ms") == "0.6 ms"
