"""Correlations: windows, groups, order, and bounds on what is kept."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capsule.rules.detection.correlation import MAX_GROUPS, Window
from capsule.rules.detection.finding import Finding
from capsule.rules.detection.model import Correlation
from capsule.rules.detection.sigma import parse_sigma
from tests.rules.detection.events import http

BASES = "".join(
    f"title: {name}\nid: {name}\nlogsource: {{product: capsule, category: http}}\n"
    f"detection: {{a: {{http.method: {name}}}, condition: a}}\n---\n"
    for name in ("A", "B", "C")
)


def correlation(text: str) -> Correlation:
    return parse_sigma(
        f"{BASES}title: c\nid: c\ncorrelation: {{{text}, timespan: 10s}}\n", "c.yml"
    ).correlations[0]


def seen(
    rule: Correlation, *rows: tuple[str, float], host: str = "h", run: str = "r", window: Window | None = None
) -> list[Finding]:
    watching = window or Window(rule)
    found = []
    for name, at in rows:
        event: dict[str, Any] = {**http(name, f"https://{host}/{name}{at}"), "run": run}
        finding = watching.observe(name, event, int(at * 1e6))
        if finding is not None:
            found.append(finding)
    return found


COUNT = correlation("type: event_count, rules: [A, B], group-by: [http.host], condition: {gte: 3}")
VALUES = correlation("type: value_count, rules: [A], condition: {gte: 3, field: http.path}")
NEAR = correlation("type: temporal, rules: [A, B], group-by: [http.host]")
ORDER = correlation("type: temporal_ordered, rules: [A, B, C]")


def test_events_are_counted_within_the_window() -> None:
    assert len(seen(COUNT, ("A", 0), ("B", 5), ("A", 10))) == 1
    assert seen(COUNT, ("A", 0), ("B", 5), ("A", 11)) == []
    assert len(seen(COUNT, ("A", 0), ("B", 5), ("A", 11), ("A", 12))) == 1


def test_after_a_finding_counting_begins_anew() -> None:
    assert len(seen(COUNT, *(("A", n / 10) for n in range(9)))) == 3


def test_groups_and_runs_are_apart() -> None:
    window = Window(COUNT)
    for host, run in (("a", "r"), ("b", "r"), ("a", "q")):
        assert seen(COUNT, ("A", 0), ("A", 1), host=host, run=run, window=window) == []
    found = seen(COUNT, ("A", 2), host="b", window=window)
    assert (found[0].group, found[0].count, len(found[0].events)) == (("b",), 3, 3)


def test_different_values_are_counted() -> None:
    assert seen(VALUES, ("A", 1), ("A", 1), ("A", 1), ("A", 1)) == []
    assert len(seen(VALUES, ("A", 1), ("A", 2), ("A", 3))) == 1
    assert seen(VALUES, ("A", 1), ("A", 9), ("A", 12)) == []


def test_rules_near_each_other_in_any_order() -> None:
    assert len(seen(NEAR, ("B", 0), ("A", 9))) == 1
    assert seen(NEAR, ("B", 0), ("B", 1), ("A", 12)) == []
    assert len(seen(NEAR, ("B", 0), ("B", 8), ("A", 12))) == 1


def test_rules_in_their_order() -> None:
    assert len(seen(ORDER, ("A", 0), ("B", 1), ("C", 2))) == 1
    assert seen(ORDER, ("B", 0), ("A", 1), ("C", 2)) == []
    assert seen(ORDER, ("A", 0), ("C", 1), ("B", 2)) == []
    assert len(seen(ORDER, ("C", 0), ("A", 1), ("A", 2), ("B", 3), ("B", 4), ("C", 5))) == 1
    assert seen(ORDER, ("A", 0), ("B", 9), ("C", 11)) == []
    assert len(seen(ORDER, ("A", 0), ("B", 9), ("A", 10), ("B", 11), ("C", 12))) == 1


def test_what_is_kept_is_bounded_and_what_is_forgotten_is_counted() -> None:
    window = Window(COUNT)
    for number in range(MAX_GROUPS + 50):
        seen(COUNT, ("A", 1), host=f"h{number}", window=window)
    assert window.forgotten == 50
    window = Window(COUNT)
    for number in range(MAX_GROUPS + 50):
        seen(COUNT, ("A", number * 20), host=f"h{number}", window=window)
    assert window.forgotten == 0


def test_an_event_of_a_rule_that_is_not_counted() -> None:
    assert Window(COUNT).observe("C", http("C", "https://h/"), 0) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["a", "b"])), max_size=40))
def test_counting_is_as_by_hand(rows: list[tuple[int, str]]) -> None:
    window = Window(COUNT)
    kept: dict[str, list[int]] = {"a": [], "b": []}
    for at, host in sorted(rows):
        kept[host] = [*(old for old in kept[host] if old >= at - 10), at]
        expected = len(kept[host]) >= 3
        assert bool(seen(COUNT, ("A", at), host=host, window=window)) is expected
        if expected:
            kept[host] = []
