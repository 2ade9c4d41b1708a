"""Files and directories that a guest has open, by the handle that it was told.

Refuses more of them than the limits say, a handle that was never told, and growth over the budget.
Errors are `OSError`.

    files = OpenFiles(limits, budget, nodes)
    handle = files.keep(node, descriptor, writes=True)
    files.write(handle, 0, b"a = 1")              # 5
    files.close(handle)
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from capsem.wire.fuse import WRITE_LIMIT
from capsem.workspace.live import Budget, Limits, Node, Nodes, fault

# Names of open directories that are kept at once.
_LISTED = 400_000

Names = list[tuple[str, int, int]]


@dataclass(slots=True)
class OpenFile:
    """One of them.

    Attributes:
        node: what it is of.
        descriptor: the host's.
        writes: whether it may be written.
        names: a directory's at the moment it was opened, each with its inode and kind; None: it is a file.
    """

    node: Node
    descriptor: int
    writes: bool
    names: Names | None = None


class OpenFiles:
    """All of them.

    Args:
        limits: how many.
        budget: what they may grow by.
        nodes: which are told when the last one of them is closed.
    """

    def __init__(self, limits: Limits, budget: Budget, nodes: Nodes) -> None:
        self._most = limits.open_files
        self._budget = budget
        self._nodes = nodes
        self._files: dict[int, OpenFile] = {}
        self._last = 0
        self._listed = 0

    def room(self, names: int = 0) -> None:
        """Refuse one more.

        Args:
            names: that it would have.

        Raises:
            OSError: ENFILE.
        """
        if len(self._files) >= self._most or self._listed + names > _LISTED:
            raise fault(errno.ENFILE)

    def keep(self, node: Node, descriptor: int, *, writes: bool, names: Names | None = None) -> int:
        """A descriptor is open for the guest from now on; its handle."""
        self._last += 1
        self._files[self._last] = OpenFile(node, descriptor, writes, names)
        self._listed += len(names or ())
        node.handles.append(self._last)
        return self._last

    def get(self, handle: int) -> OpenFile:
        """What a handle is.

        Raises:
            OSError: EBADF; nothing.
        """
        found = self._files.get(handle)
        if found is None:
            raise fault(errno.EBADF)
        return found

    def of(self, node: Node, *, writes: bool) -> int | None:
        """An open descriptor of a node, or None."""
        for handle in node.handles:
            if self._files[handle].writes or not writes:
                return self._files[handle].descriptor
        return None

    def read(self, handle: int, at: int, size: int) -> bytes:
        """Bytes of an open file."""
        file = self.get(handle)
        if file.names is not None or at >= 1 << 63:
            raise fault(errno.EINVAL)
        return os.pread(file.descriptor, min(size, WRITE_LIMIT), at)

    def write(self, handle: int, at: int, data: bytes) -> int:
        """Write to an open file; how many bytes were taken."""
        file = self.get(handle)
        if not file.writes or at >= 1 << 62:
            raise fault(errno.EBADF)
        before = os.fstat(file.descriptor).st_size
        after = max(before, at + len(data))
        self._budget.grow(before, after)
        try:
            done = os.pwrite(file.descriptor, data, at)
        except OSError:
            self._budget.size -= after - before
            raise
        return done

    def sync(self, handle: int) -> None:
        """Write an open file to the disk."""
        os.fsync(self.get(handle).descriptor)

    def names(self, handle: int, after: int) -> Names:
        """Names of an open directory from that place on."""
        names = self.get(handle).names
        if names is None:
            raise fault(errno.ENOTDIR)
        return names[after:]

    def close(self, handle: int) -> None:
        """Close a file or a directory."""
        file = self.get(handle)
        del self._files[handle]
        file.node.handles.remove(handle)
        self._listed -= len(file.names or ())
        if file.node.owed and not file.node.handles:
            self._budget.size -= os.fstat(file.descriptor).st_size
            file.node.owed = False
        os.close(file.descriptor)
        self._nodes.closed(file.node)
