"""Questions, folded and taken apart."""

from __future__ import annotations

from typing import Any as Anything

import pytest

from capsule.rules.detection.predicate import (
    ANY,
    ONE,
    All,
    Always,
    Any,
    Exists,
    Not,
    Predicate,
    Same,
    Text,
    fields_of,
    leaves,
    lowered,
    shape_of,
    simplified,
)

A, B = Exists("a"), Exists("b")


@pytest.mark.parametrize(
    ("node", "found"),
    [
        (All((A, All((B, A)))), All((A, B))),
        (All((A, Always(True))), A),
        (All((A, Always(False))), Always(False)),
        (Any((A, Always(True))), Always(True)),
        (Any((Always(False), Any((A,)))), A),
        (Any((Always(False),)), Always(False)),
        (All(()), Always(True)),
        (Not(Not(A)), A),
        (Not(Always(False)), Always(True)),
        (Not(All((A, Always(False)))), Always(True)),
    ],
)
def test_folding(node: Predicate, found: Predicate) -> None:
    assert simplified(node) == found


def test_leaves_and_fields() -> None:
    node = All((Not(Any((A, Same("c", "d")))), B))
    assert list(leaves(node)) == [A, Same("c", "d"), B]
    assert list(fields_of(node)) == ["a", "c", "d", "b"]
    assert fields_of(Text("x", ("y",))) == {"x": None}


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ((), ("is", "")), (("a",), ("is", "a")), (("a", ANY), ("starts", "a")), ((ANY, "a"), ("ends", "a")),
        ((ANY, "a", ANY), ("contains", "a")), (("a", ANY, "b"), ("like", "")), (("a", ONE), ("like", "")), ((ANY,), ("like", "")),
    ],
)  # fmt: skip
def test_shapes(parts: tuple[Anything, ...], found: tuple[str, str]) -> None:
    assert shape_of(parts) == found


def test_only_ascii_letters_are_lowered() -> None:
    assert lowered("ABC É \u017f\ud800") == "abc É \u017f\ud800"
    assert lowered("ABC") == "abc"
