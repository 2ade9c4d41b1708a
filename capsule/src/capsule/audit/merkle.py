"""The RFC 6962 tree over SHA-256: roots while leaves arrive, and inclusion proofs checked.

Leaves and nodes are hashed under different prefixes (0x00, 0x01), so no leaf can pose as a node.
Refuses proofs that are too short, too long, or for an index beyond the tree.

    tree = Frontier(); tree.push(leaf(b"one")); assert tree.root() == leaf(b"one")
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf(data: bytes) -> bytes:
    """RFC 6962 §2.1: the hash of a leaf's data."""
    return hashlib.sha256(b"\x00" + data).digest()


def parent(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1: the hash of two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def empty() -> bytes:
    """RFC 6962 §2.1: the root of the tree without leaves."""
    return hashlib.sha256().digest()


class Frontier:
    """The roots of the perfect subtrees of a growing tree, largest first: all that is needed to go on.

    Attributes:
        size: the number of leaves.
        peaks: the roots, largest first.
    """

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def push(self, node: bytes) -> None:
        """Add a leaf hash."""
        rest = self.size
        while rest & 1:
            node = parent(self.peaks.pop(), node)
            rest >>= 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree so far."""
        if not self.peaks:
            return empty()
        node = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            node = parent(left, node)
        return node


def root_from_inclusion(index: int, size: int, node: bytes, proof: Sequence[bytes]) -> bytes | None:
    """The root that `proof` leads to from leaf hash `node`; None when its length is wrong (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return None
    place, last = index, size - 1
    for sibling in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            node = parent(sibling, node)
            while place and not place & 1:
                place >>= 1
                last >>= 1
        else:
            node = parent(node, sibling)
        place >>= 1
        last >>= 1
    return node if last == 0 else None
