from __future__ import annotations

import pytest

from capsule.egress.model import shape


@pytest.mark.parametrize("value", [None, True, -1, 2**60, "5", 1.5, [], {}])
def test_a_count_is_a_whole_number(value: object) -> None:
    assert shape.count({"n": value}, "n") is None
    assert shape.count({"n": 7}, "n") == 7


def test_looks_into_untrusted_values_never_fail() -> None:
    values: list[object] = [None, [], "x", 3, {"a": None}, {"a": [1, {"b": "c"}]}]
    for untrusted in values:
        assert shape.text(untrusted, "a", "b") is None
        assert list(shape.items(untrusted, "a")) in ([], [{"b": "c"}])
    assert shape.text({"a": "x" * 999}, "a") == "x" * shape.MAX_NAME
    assert shape.loads(b"[" * 100_000) is None
    assert shape.loads(b"\xff") is None


def test_what_an_error_says() -> None:
    assert shape.failure({"type": "overloaded_error", "message": "busy"}) == "overloaded_error: busy"
    assert shape.failure("busy") == "busy"
    assert shape.failure({"code": 429}) is None


def test_tools_are_bounded() -> None:
    answer = shape.Answer()
    for index in range(shape.MAX_LIST + 50):
        answer.tool(index).name = "x"
    assert len(answer.tools) == shape.MAX_LIST


def test_sizes_are_bytes() -> None:
    assert [shape.size(v) for v in (None, "é", "\ud800", {"a": 1}, [1])] == [0, 2, 3, 7, 3]
    assert shape.total(None, None) is None
    assert shape.total(1, None, 2) == 3
