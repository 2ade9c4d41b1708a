"""The index rules out only what cannot hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.rules.environment import activation, sections_of
from capsule.rules.expression import compile_condition
from capsule.rules.index import Comparison, Index, bits, comparisons_of

ON = ("http",)


def found_in(source: str) -> tuple[Comparison, ...]:
    return comparisons_of(compile_condition(source, ON).tree)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('http.host == "a"', [(("http", "host"), "is", {"a"})]),
        (
            '"a" == http.host && http.port == 3',
            [(("http", "host"), "is", {"a"}), (("http", "port"), "is", {3})],
        ),
        ('http.host in ["a", "b"]', [(("http", "host"), "is", {"a", "b"})]),
        ('http.host == "a" || http.host == "b"', [(("http", "host"), "is", {"a", "b"})]),
        ('http.host.endsWith(".a")', [(("http", "host"), "ends", {".a"})]),
        ('http.path.startsWith("/a") && true', [(("http", "path"), "starts", {"/a"})]),
        ('http.path.contains("q")', [(("http", "path"), "contains", {"q"})]),
        ('"x-a" in http.headers', [(("http", "headers"), "key", {"x-a"})]),
        ('"x-a" in http.secret', []),
        ('http.path.contains("")', []),
        ('http.host == "a" || http.port == 3', []),
        ('!(http.host == "a")', []),
        ('http.host.startsWith("")', []),
        ("http.host == http.path", []),
        ('http.headers["a"] == "b"', []),
        ("has(http.host)", []),
        ('http.body.json.a == "b"', []),
    ],
)
def test_what_is_taken_from_a_condition(source: str, expected: list[tuple[Any, str, set[Any]]]) -> None:
    assert [(one.path, one.how, set(one.values)) for one in found_in(source)] == expected


CONDITIONS = [
    'http.host == "a.x"',
    'http.host in ["a.x", "b.x"] && http.port == 443',
    'http.host.endsWith(".x") && http.path.startsWith("/p")',
    'http.host == "b.x" || http.host == "c"',
    'http.host == "b.x" || http.port == 80',
    'http.path.startsWith("/p/") && http.path.startsWith("/")',
    "http.port == 80",
    'http.path.contains("q") && "x" in http.headers',
    'http.path.contains("q") || http.path.contains("p/")',
    '"x" in http.headers',
    "http.path.size() == 1",
]
COMPILED = [compile_condition(source, ON) for source in CONDITIONS]
INDEX = Index([comparisons_of(condition.tree) for condition in COMPILED])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "host": st.sampled_from(["a.x", "b.x", "c", "", "x", ".x"]) | st.integers(-5, 5),
            "port": st.sampled_from([443, 80, 0]) | st.just("80") | st.booleans(),
            "path": st.sampled_from(["", "/", "/p", "/p/q", "p"]) | st.just(["q"]),
            "headers": st.sampled_from([{}, {"x": "1"}, {"y": "x"}]) | st.just("x"),
        },
    )
)
def test_what_is_ruled_out_is_false(http: dict[str, Any]) -> None:
    shown = activation({"http": http}, sections_of(ON))
    found = INDEX.candidates({"http": http})
    for number, condition in enumerate(COMPILED):
        if not found >> number & 1:
            assert condition.ask(shown) is False, (CONDITIONS[number], http)


def test_it_does_rule_out() -> None:
    assert list(bits(INDEX.candidates({"http": {"host": "z", "port": 1, "path": "/"}}))) == [4, 9, 10]


def test_a_field_that_is_absent_rules_out_nothing() -> None:
    assert INDEX.candidates({}) == INDEX.everything
    assert INDEX.candidates({"http": None}) == INDEX.everything
