"""What a machine may do to a directory that it shares with the host, by names and by amounts.

Pure. Refuses what `Guards` keeps, every entry named `.git` itself, and growth over the limits: files that came to be
less those that went, bytes likewise. Nodes are the names that a guest's kernel has been told of, by number. A link that
a machine makes is a small file of the host, with a bit that no machine can set, and leads nobody there.

    nodes = Nodes(most=1000)
    node = nodes.told(nodes.root, "src")
    nodes.path(node)                              # 'src'
    unmade(guards, "src/.git")                    # why not, or None
"""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass, field

from capsem.workspace.guards import Guards

DEPTH = 100
PATH_LIMIT = 4000
LINK_BIT = stat.S_ISVTX
"""On a file, where it means nothing: this one stands for a link, if it says so, too."""
LINK_HEAD = b"!<link of a machine>\n"
TARGET_LIMIT = 4095


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a machine may take.

    Attributes:
        files: names that there may be more than before.
        size: bytes that there may be more than before.
        open_files: files and directories that are open at once.
        nodes: names that its kernel may know at once.
    """

    files: int = 100_000
    size: int = 4 << 30
    open_files: int = 1024
    nodes: int = 200_000


def unmade(guards: Guards, path: str) -> str | None:
    """Why nothing is made, replaced, moved, removed or written under that name, or None."""
    if path.rpartition("/")[2].lower() == ".git":
        return "git would take its settings and hooks from there"
    return guards.kept(path)


def link_text(target: bytes) -> bytes:
    """The content of a file that stands for a link.

    Raises:
        OSError: no link leads there.
    """
    if not target:
        raise fault(errno.ENOENT)
    if len(target) > TARGET_LIMIT:
        raise fault(errno.ENAMETOOLONG)
    return LINK_HEAD + target


def may_be_link(mode: int, size: int) -> bool:
    """Whether a file has to be read to know if it stands for a link."""
    return stat.S_ISREG(mode) and bool(mode & LINK_BIT) and 0 < size - len(LINK_HEAD) <= TARGET_LIMIT


def link_target(untrusted_content: bytes) -> bytes | None:
    """Where a file with `LINK_BIT` leads; None: it is a file like others."""
    target = untrusted_content.removeprefix(LINK_HEAD)
    fits = 0 < len(target) <= TARGET_LIMIT and b"\0" not in target
    return target if fits and len(target) < len(untrusted_content) else None


def fault(number: int) -> OSError:
    """An errno as an error."""
    return OSError(number, errno.errorcode[number])


@dataclass(slots=True)
class Budget:
    """What is left of the limits.

    Attributes:
        limits: all there was.
        files: names more than before.
        size: bytes more than before.
    """

    limits: Limits
    files: int = 0
    size: int = 0

    def name(self) -> None:
        """One name more.

        Raises:
            OSError: EDQUOT.
        """
        if self.files >= self.limits.files:
            raise fault(errno.EDQUOT)
        self.files += 1

    def grow(self, before: int, after: int) -> None:
        """A file's size changes.

        Raises:
            OSError: EDQUOT; a file that shrinks is never refused.
        """
        if after > before and self.size + after - before > self.limits.size:
            raise fault(errno.EDQUOT)
        self.size += after - before


@dataclass(slots=True)
class Node:
    """One name.

    Attributes:
        number: which the guest's kernel calls it by.
        parent: the directory's.
        name: in it.
        known: how often the guest's kernel was told of it and has not forgotten.
        handles: open files of it.
        gone: whether the name was removed.
        owed: whether its bytes are given back when its last open file is closed.
        children: names below it that are known.
    """

    number: int
    parent: Node | None
    name: str
    known: int = 0
    handles: list[int] = field(default_factory=list)
    gone: bool = False
    owed: bool = False
    children: int = 0


class Nodes:
    """All names that a guest's kernel knows.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._next = 2
        self.root = Node(1, None, "", known=1)
        self._all = {1: self.root}
        self._named: dict[tuple[int, str], Node] = {}

    def __len__(self) -> int:
        return len(self._all)

    def get(self, number: int) -> Node:
        """A node by its number.

        Raises:
            OSError: ESTALE; there is none.
        """
        found = self._all.get(number)
        if found is None:
            raise fault(errno.ESTALE)
        return found

    def told(self, parent: Node, name: str) -> Node:
        """The node of a name, of which the guest's kernel is told once more.

        Raises:
            OSError: ENFILE; there are too many. ENAMETOOLONG; it is too deep.
        """
        found = self._named.get((parent.number, name))
        if found is None:
            if len(self._all) >= self._most:
                raise fault(errno.ENFILE)
            self.path(parent, name)
            found = Node(self._next, parent, name)
            self._next += 1
            parent.children += 1
            self._all[found.number] = self._named[parent.number, name] = found
        found.known += 1
        return found

    def named(self, parent: Node, name: str) -> Node | None:
        """The node of a name, if the guest's kernel knows it."""
        return self._named.get((parent.number, name))

    def path(self, node: Node, name: str | None = None) -> str:
        """The node's path below the root, or that of a name in it.

        Raises:
            OSError: ENOENT; it was removed. ENAMETOOLONG; it is too deep.
        """
        parts = [] if name is None else [name]
        at: Node | None = node
        while at is not None and at.parent is not None:
            if at.gone:
                raise fault(errno.ENOENT)
            parts.append(at.name)
            at = at.parent
            if len(parts) > DEPTH:
                raise fault(errno.ENAMETOOLONG)
        path = "/".join(reversed(parts))
        if len(path) > PATH_LIMIT:
            raise fault(errno.ENAMETOOLONG)
        return path

    def removed(self, parent: Node, name: str) -> Node | None:
        """A name is gone; the node that it was."""
        found = self._named.pop((parent.number, name), None)
        if found is not None:
            found.gone = True
        return found

    def moved(self, old: Node, name: str, new: Node, new_name: str) -> Node | None:
        """A name is another now; the node whose name it took."""
        replaced = self.removed(new, new_name)
        node = self._named.pop((old.number, name), None)
        if node is not None:
            old.children -= 1
            new.children += 1
            node.parent, node.name = new, new_name
            self._named[new.number, new_name] = node
            self._dropped(old)
        return replaced

    def forgotten(self, number: int, times: int) -> None:
        """The guest's kernel forgets; one that it was not told of is not there."""
        node = self._all.get(number)
        if node is not None and node.parent is not None:
            node.known = max(0, node.known - times)
            self._dropped(node)

    def closed(self, node: Node) -> None:
        """An open file of it was closed."""
        self._dropped(node)

    def _dropped(self, node: Node) -> None:
        at: Node | None = node
        while at is not None and at.parent is not None and not (at.known or at.handles or at.children):
            del self._all[at.number]
            if self._named.get((at.parent.number, at.name)) is at:
                del self._named[at.parent.number, at.name]
            at.parent.children -= 1
            at = at.parent
