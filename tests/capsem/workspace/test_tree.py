from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsem.errors import MachineError
from capsem.workspace.tree import Node, below, decode, differences, encode

DIGESTS = st.sampled_from(["a" * 64, "b" * 64])
NODES = st.one_of(
    st.builds(Node, st.just("file"), st.sampled_from([0o644, 0o755]), st.just(1), st.integers(0, 9), DIGESTS),
    st.builds(Node, st.just("directory"), st.sampled_from([0o755, 0o700])),
    st.builds(Node, st.just("link"), st.just(0o777), target=st.sampled_from(["x", "y"])),
)
TREES = st.dictionaries(st.sampled_from(["a", "a/b", "a-c", "\udcff", "é", "z\n"]), NODES)


@given(TREES, TREES)
def test_differences_are_what_turns_one_into_the_other(
    before: dict[str, Node], after: dict[str, Node]
) -> None:
    made = dict(before)
    found = differences(before, after)
    for one in found:
        assert (one.before, one.after) == (before.get(one.path), after.get(one.path))
        if one.after is None:
            del made[one.path]
        else:
            made[one.path] = one.after
    assert differences(made, after) == []
    assert made.keys() == after.keys()
    assert [one.path for one in found] == sorted(
        (one.path for one in found), key=lambda path: path.split("/")
    )


@given(TREES)
def test_a_tree_is_read_as_it_was_written(tree: dict[str, Node]) -> None:
    assert decode(encode(tree, root="/w"), "x") == (tree, {"root": "/w"})
    assert differences(tree, tree) == []


def test_what_the_actions_are() -> None:
    file = Node("file", 0o644, 1, 1, "a" * 64)
    cases = {
        "added": (None, file), "removed": (file, None), "changed": (file, Node("file", 0o644, 1, 1, "b" * 64)),
        "mode": (file, Node("file", 0o755, 1, 1, "a" * 64)), "replaced": (file, Node("directory", 0o755)),
    }  # fmt: skip
    for action, (one, two) in cases.items():
        found = differences({"x": one} if one else {}, {"x": two} if two else {})
        assert [each.action for each in found] == [action]
    assert differences({"x": file}, {"x": Node("file", 0o644, 1, 999, "a" * 64)}) == []


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"[]", b"{}", b'{"version":1}', b'{"version":2,"nodes":{}}',
        b'{"version":1,"nodes":{"../x":["file",420]}}',
        b'{"version":1,"nodes":{"/x":["file",420]}}', b'{"version":1,"nodes":{"x":["socket",420]}}',
        b'{"version":1,"nodes":{"x":["file",4095]}}', b'{"version":1,"nodes":{"x":["file",420,1,1,"zz"]}}',
        b'{"version":1,"nodes":{"":["file",420]}}', b"\xff",
    ],
)  # fmt: skip
def test_a_file_that_is_no_tree(bad: bytes) -> None:
    with pytest.raises(MachineError):
        decode(bad, "base.json")


def test_below() -> None:
    assert below("a/b", ("a",))
    assert below("a", ("a",))
    assert not below("ab", ("a",))
    assert below("x", ())
