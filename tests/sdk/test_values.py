"""What crosses comes back equal and of the same types; everything else is refused with its place."""

from __future__ import annotations

import datetime
import enum
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.sdk.values import MAX_DEPTH, UnfitValueError, decode, encode, exceeds

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.binary()
)  # fmt: skip
KEYS = st.text() | st.sampled_from(["$bytes", "$tuple", "$dict", "$other"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


def same(left: object, right: object) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@given(VALUES)
def test_what_comes_out_is_what_went_in(value: object) -> None:
    assert same(decode(encode(value)), value)


class Colour(enum.IntEnum):
    RED = 1


class Words(str):
    __slots__ = ()


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, r"result\['a'\]\[1\]: builtins.set cannot cross .*list\(value\)"),
        ([Colour.RED], r"result\[0\]: .*Colour cannot cross .*"),
        (Words("x"), r"result: .*Words cannot cross .*pass a plain str"),
        ({1: 2}, r"result: the key 1 is int; keys must be str"),
        ({"t": (float("nan"),)}, r"result\['t'\]\[0\]: nan cannot cross"),
        (float("inf"), "only finite numbers"),
        (datetime.date(2020, 1, 1), "isoformat"),
        (Path("x"), r"pass str\(value\)"),
        (Point(1), "asdict"),
        (bytearray(b"x"), r"pass bytes\(value\)"),
        (print, "cannot cross"),
        ([10**5000], r"result: an int in it has more than 4300 digits and cannot cross; pass hex\(value\)"),
    ],
)
def test_what_may_not_cross_says_where_and_what_instead(value: object, message: str) -> None:
    with pytest.raises(UnfitValueError, match=message):
        encode(value, "result")


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_is_bounded_both_ways() -> None:
    deep = nested(MAX_DEPTH - 1)
    assert decode(encode(deep)) == deep
    with pytest.raises(UnfitValueError, match="deeper than"):
        encode(nested(MAX_DEPTH))
    for text in (json.dumps(nested(MAX_DEPTH)), '[{"$tuple":[]},' + "[" * 150 + "]" * 150 + "]"):
        with pytest.raises(UnfitValueError, match="deeper than"):
            decode(text.encode())


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(UnfitValueError, match="deeper than"):
        encode(loop)


@pytest.mark.parametrize(
    "untrusted",
    [
        b"", b"\xff\xfe", b"nothing", b"{", b"[1,]", b"NaN", b"[Infinity]", b"1e999", b'{"a":1,"a":2}',
        b"[" * 5000, b'{"$unknown":1}', b'{"$bytes":1}', b'{"$bytes":"*"}', b'{"$bytes":"\\u00e9"}',
        b'{"$tuple":{}}', b'{"$dict":[]}', b'{"$bytes":"","x":1}', b"1" * 5000,
        pickle.dumps(print), pickle.dumps({"a": 1}, protocol=0),
    ],
    ids=lambda words: repr(words[:40]),
)  # fmt: skip
def test_hostile_text_is_an_error_and_nothing_else(untrusted: bytes) -> None:
    with pytest.raises(UnfitValueError, match="not the text form of a value"):
        decode(untrusted, "result")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(untrusted: bytes) -> None:
    try:
        value = decode(untrusted)
    except UnfitValueError:
        return
    encode(value)


@given(VALUES, st.integers(0, 200))
def test_what_exceeds_a_limit_is_longer_than_it(value: object, most: int) -> None:
    if exceeds(value, most):
        assert len(encode(value)) > most


def test_large_values_are_told_without_making_their_text() -> None:
    for value in ("x" * 2000, b"x" * 2000, ["x" * 500] * 4, {"a": [("x" * 900,), b"y" * 200]}, [None] * 1001):
        assert exceeds(value, 1000)
    fits: tuple[object, ...] = ("x" * 900, {"a": ["x" * 400, b"y" * 100]}, 10**3000, None, [])
    for small in fits:
        assert not exceeds(small, 1000)
    endless: list[object] = []
    endless.append(endless)
    assert not exceeds(endless, 1000)


def test_a_dict_that_looks_like_a_tag_stays_a_dict() -> None:
    for value in ({"$bytes": "YWI="}, {"$dict": {"$tuple": [1]}}, [{"$tuple": [b"x"]}]):
        assert decode(encode(value)) == value
