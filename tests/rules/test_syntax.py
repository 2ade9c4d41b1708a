"""The tree of a compiled condition, read from its serialised form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.rules.expression import compile_condition
from capsule.rules.syntax import (
    Call,
    Collection,
    Comprehension,
    Const,
    Ident,
    Select,
    Tree,
    UnreadableTreeError,
    children,
    parse_tree,
    walk,
)


def tree(source: str) -> Tree:
    return compile_condition(source, ("http",)).tree


def test_operators_selections_and_constants() -> None:
    expr = tree('http.host == "é" && http.port != -7').expr
    assert isinstance(expr, Call)
    assert expr.function == "_&&_"
    first, second = expr.args
    assert isinstance(first, Call)
    selected, constant = first.args
    assert isinstance(selected, Select)
    assert (selected.field, selected.test) == ("host", False)
    assert isinstance(selected.operand, Ident)
    assert selected.operand.name == "http"
    assert isinstance(constant, Const)
    assert constant.value == "é"
    assert isinstance(second, Call)
    assert isinstance(second.args[1], Const)
    assert second.args[1].value == -7


@pytest.mark.parametrize(
    ("literal", "value"),
    [('""', ""), ("0", 0), ("-9223372036854775808", -(2**63)), ("3u", 3), ("2.5", 2.5), ("false", False), ('b"x"', b"x"), ("null", None)],
)  # fmt: skip
def test_constants(literal: str, value: object) -> None:
    found = [
        node.value for node in walk(tree(f"dyn({literal}) == http.body.json").expr) if isinstance(node, Const)
    ]
    assert found == [value]
    assert type(found[0]) is type(value)


def test_methods_lists_maps_comprehensions_and_has() -> None:
    nodes = list(walk(tree('http.path.startsWith("/") && http.port in [1, 2] && has(http.sni)').expr))
    assert any(isinstance(n, Call) and n.function == "startsWith" and n.target is not None for n in nodes)
    assert any(isinstance(n, Collection) and len(n.items) == 2 for n in nodes)
    assert any(isinstance(n, Select) and n.test and n.field == "sni" for n in nodes)
    over = tree('http.secret.exists(s, s == "a") || {"k": http.host}["k"] == "x"')
    loops = [n for n in walk(over.expr) if isinstance(n, Comprehension)]
    assert "s" in loops[0].variables
    assert children(loops[0])[0] == loops[0].over


def test_offsets_count_characters() -> None:
    found = tree('"é😀" == http.host')
    ident = next(node for node in walk(found.expr) if isinstance(node, Ident))
    assert found.offsets[ident.id] == 8


@given(st.binary(max_size=200))
def test_bytes_that_are_no_tree_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableTreeError):
        parse_tree(data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_tree_is_read_or_refused(at: int, byte: int) -> None:
    data = bytearray(
        compile_condition('http.host == "a" && http.port in [1, 2]', ("http",)).program.serialize()
    )
    data[at % len(data)] = byte
    try:
        found = parse_tree(bytes(data))
    except UnreadableTreeError:
        return
    assert list(walk(found.expr))
