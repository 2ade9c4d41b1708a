"""A tree of files by content: each name's kind, mode, size, time and BLAKE3; and how two trees differ.

Pure. Refuses a file of trees that is not of the documented form (docs/formats/workspace.md).

    before = {"a.py": Node("file", 0o644, 3, 1767225600, digest)}
    differences(before, {})                     # [Difference("a.py", "removed", …)]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from capsem.errors import MachineError

VERSION = 1
Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
Action = Literal["added", "changed", "removed", "mode", "replaced"]


class Node(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One name.

    Attributes:
        kind: what it is.
        mode: permission bits, at most 0777.
        size: bytes, of a file.
        mtime: seconds since 1970.
        digest: the BLAKE3 of a file's bytes, 64 hex digits.
        target: of a link; undecodable bytes as surrogates.
    """

    kind: Literal["file", "directory", "link"]
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o777)]
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    mtime: int = 0
    digest: Digest = ""
    target: str = ""

    def same_content(self, other: Node) -> bool:
        """Whether the two are of one kind and hold the same."""
        return (self.kind, self.digest, self.target) == (other.kind, other.digest, other.target)


Tree = Mapping[str, Node]


@dataclass(frozen=True, slots=True)
class Difference:
    """One name that is not the same in two trees; None where it is not there."""

    path: str
    action: Action
    before: Node | None
    after: Node | None


def differences(before: Tree, after: Tree) -> list[Difference]:
    """What turns one tree into the other, by name: a directory before what is in it; times alone are no difference."""
    found = []
    for path in sorted(before.keys() | after.keys(), key=lambda name: name.split("/")):
        one, two = before.get(path), after.get(path)
        action: Action | None = None
        if one is None:
            action = "added"
        elif two is None:
            action = "removed"
        elif one.kind != two.kind:
            action = "replaced"
        elif not one.same_content(two):
            action = "changed"
        elif one.mode != two.mode and one.kind != "link":
            action = "mode"
        if action is not None:
            found.append(Difference(path, action, one, two))
    return found


def below(path: str, wanted: tuple[str, ...]) -> bool:
    """Whether a name is one of those, or lies in one; every name when none is wanted."""
    return not wanted or any(path == one or path.startswith(one + "/") for one in wanted)


def encode(tree: Tree, **about: Any) -> bytes:
    """A tree as a file, with what is known about it. Undecodable bytes of names are lone surrogates, in JSON's form."""
    nodes = {path: msgspec.to_builtins(node) for path, node in tree.items()}
    return json.dumps({"version": VERSION, **about, "nodes": nodes}, separators=(",", ":")).encode() + b"\n"


def decode(untrusted: bytes, place: str) -> tuple[dict[str, Node], dict[str, Any]]:
    """The tree in a file, and what the file says about it.

    Raises:
        MachineError: it is none.
    """
    try:
        found = json.loads(untrusted)
        version = found.pop("version")
        nodes = msgspec.convert(found.pop("nodes"), dict[str, Node])
    except (
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        RecursionError,
        msgspec.ValidationError,
    ) as error:
        raise MachineError(f"{place} is no tree of files: {error}", next_step="move it away") from error
    if version != VERSION:
        raise MachineError(f"{place} has version {version!r}, which is not known", next_step="update capsem")
    for path in nodes:
        if not path or any(part in {"", ".", ".."} or "\0" in part for part in path.split("/")):
            raise MachineError(f"{place} has the name {path!r}, which is none", next_step="move it away")
    return nodes, found
