from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.errors import PolicyError
from capsule.policy.document import (
    MAX_BYTES,
    MAX_LIST,
    MAX_NODES,
    Mapping,
    Scalar,
    Sequence,
    kind_of,
    read_document,
)


def refused(data: bytes) -> tuple[int, int, str]:
    with pytest.raises(PolicyError) as caught:
        read_document(data, "p.yaml")
    (problem,) = caught.value.problems
    assert problem.file == "p.yaml"
    return problem.line, problem.column, str(problem)


def check_places(error: PolicyError) -> None:
    assert error.problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)


def test_values_keep_their_place_and_their_quotes() -> None:
    root = read_document(b"version: 1\nread:\n  - 'x'\n  - {a: b}\n", "p.yaml")
    assert [(key.text, key.line, key.column) for key, _ in root.entries] == [
        ("version", 1, 1),
        ("read", 2, 1),
    ]
    items = root.entries[1][1]
    assert isinstance(items, Sequence)
    assert items.items[0] == Scalar("x", True, 3, 5)
    inner = items.items[1]
    assert isinstance(inner, Mapping)
    assert (inner.line, inner.column) == (4, 5)


def test_windows_line_ends_are_read() -> None:
    root = read_document(b"a: 1\r\nb: 2\r\n", "p.yaml")
    assert [key.text for key, _ in root.entries] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "line", "column", "says"),
    [
        (b"", 1, 1, "the file is empty"),
        (b" \n\n", 1, 1, "the file is empty"),
        (b"# only words\n", 1, 1, "the file is empty"),
        (b"\xef\xbb\xbfa: 1", 1, 1, "byte order mark"),
        ("a: 1".encode("utf-16"), 1, 1, "byte order mark"),
        (b"a: 1\nb: \xff", 2, 4, "byte 0xff is not UTF-8"),
        ("é: 1\nbé: ".encode() + b"\xc3", 2, 5, "byte 0xc3 is not UTF-8"),
        (b"a:\n\t- b", 2, 1, "a tab"),
        (b"a: 1 #\tx", 1, 7, "a tab"),
        (b"a: \x00", 1, 4, "U+0000"),
        (b"a: 1\r\nb: \x1b[2J", 2, 4, "U+001B"),
        (b"a: 1\rb: 2", 1, 5, "U+000D"),
        ("a: \u202eb".encode(), 1, 4, "U+202E"),
        ("a: x\u2028b".encode(), 1, 5, "U+2028"),
        (b"a: &x 1\nb: 2", 1, 4, "an anchor (&)"),
        (b"a: 1\nb: *a", 2, 4, "an alias (*)"),
        (b"a: !!str 1", 1, 4, "the tag"),
        (b"a: !x {}", 1, 4, "the tag"),
        (b"%YAML 1.1\n---\na: 1", 2, 1, "a YAML directive"),
        (b"%TAG ! !x\n---\na: 1", 2, 1, "a YAML directive"),
        (b"a: 1\n---\nb: 1", 2, 1, "a second document"),
        (b"a: 1\na: 2", 2, 1, "the key 'a' is written twice; merge it with line 1"),
        (b"a: {b: 1, b: 2}", 1, 11, "the key 'b' is written twice"),
        (b"? [a]\n: 1", 1, 3, "a list as a key"),
        (b"? {a: 1}\n: 1", 1, 3, "a mapping as a key"),
        (b"- a", 1, 1, "the file holds a list"),
        (b"word", 1, 1, "the file holds a single value"),
        (b"a: [1, 2", 1, 9, "this is not YAML"),
        (b"a: 1\n b: 2", 2, 3, "this is not YAML"),
        (b"a: 'x", 1, 6, "this is not YAML"),
        (b"a: @x", 1, 4, "this is not YAML"),
        (b'a: "\\ud800"', 1, 4, "a control or surrogate character"),
        (b'a: "\\0"', 1, 4, "a control or surrogate character"),
        (b'a: "\\e[2J"', 1, 4, "a control or surrogate character"),
        (b'a: "\\Uffffffff"', 1, 1, "this is not YAML"),
    ],
)
def test_only_plain_yaml_is_read(data: bytes, line: int, column: int, says: str) -> None:
    found = refused(data)
    assert says in found[2]
    if "this is not YAML" not in says:
        assert found[:2] == (line, column)


def test_sizes_are_capped() -> None:
    assert "longer than 256 KiB" in refused(b"a: " + b"x" * MAX_BYTES)[2]
    assert "nesting deeper than 16" in refused(b"a: " + b"[" * 17 + b"]" * 17)[2]
    assert "nesting deeper than 16" in refused(b"a: " + b"[" * 200_000)[2]
    read_document(b"a: " + b"[" * 14 + b"]" * 14, "p.yaml")
    assert f"more than {MAX_LIST} entries" in refused(b"a: [" + b"1," * (MAX_LIST + 1) + b"1]")[2]
    wide = b"".join(b"k%d: [%s]\n" % (i, b"1," * 4000) for i in range(8))
    assert f"more than {MAX_NODES} values" in refused(wide)[2]
    assert "a value longer than 4096 bytes" in refused(b"a: " + b"x" * 4097)[2]


def test_a_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = b"a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n"
    assert refused(bomb)[:2] == (1, 4)


def test_kinds_have_names() -> None:
    root = read_document(b"a:\nb: ''\nc: x\nd: []\ne: {}", "p.yaml")
    assert [kind_of(value) for _, value in root.entries] == [
        "nothing",
        "a single value",
        "a single value",
        "a list",
        "a mapping",
    ]


@settings(max_examples=120)
@given(st.binary(max_size=200) | st.text("ab:-[]{}!&*%#'\"?|>\n ,@`\\u0Ux", max_size=60).map(str.encode))
def test_any_bytes_give_a_tree_or_a_policy_error(data: bytes) -> None:
    try:
        root = read_document(data, "p.yaml")
    except PolicyError as error:
        check_places(error)
    else:
        assert len({key.text for key, _ in root.entries}) == len(root.entries)


@pytest.mark.parametrize(
    "data",
    [
        b"a: '" + b"x\n" * 130_000,
        b"a: x\n" + b" y\n" * 87_000,
        b"? " * 131_000,
        b"{a: " * 65_000,
        b":" * 262_000,
    ],
    ids=["open quote", "long plain text", "keys of keys", "nested", "colons"],
)
def test_hostile_files_of_full_size_are_refused_in_time(data: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(PolicyError):
        read_document(data, "p.yaml")
    # Under two seconds alone; room for a busy machine. What grows with the square would take minutes.
    assert time.monotonic() - started < 60
