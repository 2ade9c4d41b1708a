"""Detections in CEL: what is written, what an event is shown as."""

from __future__ import annotations

import pytest

from capsule.rules.detection import predicate as p
from capsule.rules.detection.cel import MAX_TEXT, Plan, conditions, keys_of, like_pattern, taker
from capsule.rules.detection.predicate import ANY, ONE
from capsule.rules.index import Comparison

PATH = "process.path"


@pytest.mark.parametrize(
    ("node", "source"),
    [
        (p.Text(PATH, (ANY, "/Curl")), '(has(t.process_path) && t.process_path.endsWith("/curl"))'),
        (p.Text(PATH, ("A",), True), '(has(v.process_path) && v.process_path == "A")'),
        (
            p.Text(PATH, ("a", ANY, "b.")),
            '(has(t.process_path) && t.process_path.matches("(?s)^a.*b\\\\.$"))',
        ),
        (
            p.Text("process.argv", (ANY, "x", ANY)),
            '(has(t.process_argv) && t.process_argv.exists(x, x.contains("x")))',
        ),
        (p.Number("process.pid", ">=", 3), "(has(v.process_pid) && v.process_pid >= 3)"),
        (p.Not(p.Exists(PATH)), "!(has(v.process_path))"),
        (
            p.Any((p.Text(PATH, (ANY, "a")), p.Text(PATH, ("b",)), p.Text(PATH, ("c",)), p.Exists("run"))),
            '((has(t.process_path) && (t.process_path in ["b", "c"] || t.process_path.endsWith("a"))) || has(v.run))',
        ),
    ],
)
def test_sources(node: p.Predicate, source: str) -> None:
    found = Plan([node]).source(node)
    assert found == source
    assert conditions().compile(found).return_type().name() == "BOOL"


def test_an_event_is_shown_by_what_is_asked_about() -> None:
    plan = Plan(
        [
            p.Text(PATH, ("a",)),
            p.Exists("http.headers.x-a"),
            p.Text("program.command", ("B",), True),
            p.Exists(PATH),
        ]
    )
    event = {
        "process": {"path": "/A\0B", "name": "x"},
        "http": {"headers": {"x-a": "1"}},
        "program": {"argv": ["A", 3, "b"]},
    }
    assert plan.shown(event) == {
        "v": {"http_headers_x_a": "1", "program_command": "A b", "process_path": "/A\ufffdB"},
        "t": {"process_path": "/a\ufffdb"},
    }
    assert plan.shown({}) == {"v": {}, "t": {}}


def test_names_that_would_be_one_are_two() -> None:
    plan = Plan([p.Exists("http.headers.x-a"), p.Exists("http.headers.x.a")])
    assert len(set(plan.plain.values())) == 2


@pytest.mark.parametrize(
    ("field", "value", "taken"),
    [
        ("process.path", "x", "x"), ("process.path", 3, None), ("process.path", ["x"], None), ("process.path", "x" * 70_000, "x" * MAX_TEXT),
        ("process.pid", 3, 3), ("process.pid", True, None), ("process.pid", 10**30, 1e30), ("process.pid", 10**400, None),
        ("process.argv", ["a", 1, "b"], ["a", "b"]), ("process.argv", "a", None), ("process.argv", ["a"] * 999, ["a"] * 256),
    ],
)  # fmt: skip
def test_values_of_other_kinds_are_none(field: str, value: object, taken: object) -> None:
    section, _, name = field.partition(".")
    assert taker(field)({section: {name: value}}) == taken
    assert taker(field)({section: value}) is None


def test_keys_and_patterns() -> None:
    assert keys_of("http.response.headers.x.y") == ("http", "response", "headers", "x.y")
    assert like_pattern(p.Text(PATH, ("A.", ANY, ONE, "é"), True)) == "(?s)^A\\..*.é$"


def test_what_a_value_must_be_goes_to_the_index() -> None:
    ends = [p.Text(PATH, (ANY, "/A")), p.Text(PATH, (ANY, "/b"))]
    node = p.All((p.Any(tuple(ends)), p.Text(PATH, (ANY, "x", ANY)), p.Not(p.Text(PATH, ("c",)))))
    assert Plan([node]).comparisons(node) == (
        Comparison(("t", "process_path"), "ends", frozenset({"/a", "/b"})),
        Comparison(("t", "process_path"), "contains", frozenset({"x"})),
    )
    mixed = p.Any((p.Text(PATH, ("a",)), p.Exists("run")))
    assert Plan([mixed]).comparisons(mixed) == ()
