"""Roots against the definition, and proofs that nothing else fits."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from capsule.audit.merkle import Frontier, empty, leaf, parent, root_from_inclusion
from tests.audit.forge import tree


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if index < k:
        return [*path(index, leaves[:k]), tree(leaves[k:])]
    return [*path(index - k, leaves[k:]), tree(leaves[:k])]


def test_roots_and_proofs_agree_with_the_definition() -> None:
    frontier = Frontier()
    assert frontier.root() == empty() == hashlib.sha256().digest()
    leaves: list[bytes] = []
    for size in range(1, 40):
        leaves.append(b"%d" % size)
        frontier.push(leaf(leaves[-1]))
        assert frontier.root() == tree(leaves)
        for index in range(size):
            proof = path(index, leaves)
            assert root_from_inclusion(index, size, leaf(leaves[index]), proof) == frontier.root()


def test_a_leaf_cannot_pose_as_a_node() -> None:
    a, b = leaf(b"a"), leaf(b"b")
    assert leaf(a + b) != parent(a, b) != leaf(b"\x01" + a + b)


@given(st.integers(2, 60), st.data())
def test_a_changed_proof_leads_elsewhere(size: int, data: st.DataObject) -> None:
    leaves = [b"%d" % n for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    proof = path(index, leaves)
    node, root = leaf(leaves[index]), tree(leaves)
    which, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(proof[which])
    changed[bit // 8] ^= 1 << bit % 8
    assert (
        root_from_inclusion(index, size, node, [*proof[:which], bytes(changed), *proof[which + 1 :]]) != root
    )
    assert root_from_inclusion(index, size, node, proof[:-1]) is None
    assert root_from_inclusion(index, size, node, [*proof, bytes(32)]) is None
    assert root_from_inclusion(size, size, node, proof) is None
    assert root_from_inclusion(-1, size, node, proof) is None
