"""A guest's kernel for tests of the share: asks as the real one does, or as a taken-over one would.

Refuses nothing; what it was answered is bytes or an `OSError`.

    kernel = Kernel(serving)
    node = kernel.find("src/a.py")
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from capsem.processes.share.serving import Reports, Serving
from capsem.processes.share.tree import Tree
from capsem.wire import fuse
from capsem.wire.fuse import Op
from capsem.workspace.guards import PRESETS, Guards
from capsem.workspace.live import Limits
from capsule.cli.files import load_policy

SECRET = b"secret of the host"
POLICIES = [load_policy(name) for name in PRESETS]
INIT = struct.pack("<IIII", 7, 37, 1 << 17, 0xFFFFFFFF)


def request(op: int, node: int, body: bytes = b"", unique: int = 7) -> bytes:
    """A request as it comes over the port."""
    return fuse.HEADER.pack(fuse.HEADER.size + len(body), op, unique, node, 0, 0, 1, 0) + body


def serving(root: Path, limits: Limits | None = None) -> tuple[Serving, list[str]]:
    """What serves a directory under the guards of every workspace, and what it reports."""
    told: list[str] = []
    guards = Guards(str(root), "/home/u", POLICIES)
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    return Serving(Tree(descriptor, guards, limits or Limits(), Reports(told.append)), lambda: 10**18), told


def refused(number: int, act: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=r".") as error:
        act()
    assert error.value.errno == number, error.value


class Kernel:
    """One guest's.

    Args:
        serving: who answers.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.ask(Op.INIT, 0, INIT)

    def ask(self, op: int, node: int, body: bytes = b"") -> bytes:
        """The answer's body."""
        answer = self._serving.answered(fuse.parse(request(op, node, body)))
        if not answer:
            return b""
        size, error, unique = fuse.ANSWER.unpack_from(answer)
        assert (size, unique) == (len(answer), 7)
        if error:
            raise OSError(-error, os.strerror(-error))
        return answer[fuse.ANSWER.size :]

    def lookup(self, parent: int, name: str | bytes) -> int:
        """A name's node."""
        return int.from_bytes(self.ask(Op.LOOKUP, parent, _raw(name) + b"\0")[:8], "little")

    def find(self, path: str) -> int:
        """A path's node, walked as the real kernel does."""
        node = fuse.ROOT
        for name in path.split("/") if path else ():
            node = self.lookup(node, name)
        return node

    def mode(self, node: int) -> int:
        """Kind and permissions."""
        return int(struct.unpack_from("<I", self.ask(Op.GETATTR, node, bytes(16)), 16 + 60)[0])

    def create(self, parent: int, name: str, flags: int = os.O_RDWR, mode: int = 0o100644) -> tuple[int, int]:
        """Node and handle of a file that is made and opened."""
        answer = self.ask(Op.CREATE, parent, fuse.CREATE.pack(flags, mode, 0o22, 0) + _raw(name) + b"\0")
        return int.from_bytes(answer[:8], "little"), int.from_bytes(answer[128:136], "little")

    def open(self, node: int, flags: int = os.O_RDONLY, op: int = Op.OPEN) -> int:
        """A handle."""
        return int.from_bytes(self.ask(op, node, fuse.OPEN.pack(flags, 0))[:8], "little")

    def read(self, handle: int, size: int = 4096, at: int = 0) -> bytes:
        """Bytes of a file."""
        return self.ask(Op.READ, 1, fuse.READ.pack(handle, at, size, 0, 0, 0, 0))

    def write(self, handle: int, data: bytes, at: int = 0) -> int:
        """Bytes that were taken."""
        body = fuse.WRITE.pack(handle, at, len(data), 0, 0, 0, 0) + data
        return int.from_bytes(self.ask(Op.WRITE, 1, body)[:4], "little")

    def close(self, handle: int, op: int = Op.RELEASE) -> None:
        """It is open no longer."""
        self.ask(op, 1, fuse.RELEASE.pack(handle, 0, 0, 0))

    def put(self, path: str, data: bytes) -> None:
        """A file with this content."""
        above, _, name = path.rpartition("/")
        _, handle = self.create(self.find(above), name)
        self.write(handle, data)
        self.close(handle)

    def mkdir(self, parent: int, name: str, mode: int = 0o755) -> int:
        """A directory's node."""
        return int.from_bytes(
            self.ask(Op.MKDIR, parent, fuse.MKDIR.pack(mode, 0o22) + _raw(name) + b"\0")[:8], "little"
        )

    def remove(self, parent: int, name: str, op: int = Op.UNLINK) -> None:
        """A name goes."""
        self.ask(op, parent, _raw(name) + b"\0")

    def move(self, old: int, name: str, new: int, new_name: str, flags: int = 0) -> None:
        """A name becomes another."""
        body = fuse.RENAME2.pack(new, flags, 0) + _raw(name) + b"\0" + _raw(new_name) + b"\0"
        self.ask(Op.RENAME2, old, body)

    def change(
        self, node: int, *, mode: int | None = None, size: int | None = None, owner: int | None = None
    ) -> None:
        """Mode, size, owner."""
        valid = (mode is not None) | (owner is not None) << 1 | (size is not None) << 3
        body = fuse.SETATTR.pack(
            valid, 0, 0, size or 0, 0, 0, 0, 0, 0, 0, 0, mode or 0, 0, owner or 0, 0, 0
        )  # fmt: skip
        self.ask(Op.SETATTR, node, body)

    def names(self, node: int, op: int = Op.READDIR) -> list[str]:
        """Names of a directory but `.` and `..`."""
        handle = self.open(node, op=Op.OPENDIR)
        found: list[str] = []
        at = 0
        overhead = fuse.LISTING_OVERHEAD if op == Op.READDIRPLUS else 0
        while told := self.ask(op, node, fuse.READ.pack(handle, at, 4096, 0, 0, 0, 0)):
            while told:
                _, at, length, _ = struct.unpack_from("<QQII", told, overhead)
                found.append(told[overhead + 24 : overhead + 24 + length].decode("utf-8", "surrogateescape"))
                size = overhead + 24 + length
                told = told[size + -size % 8 :]
        self.close(handle, Op.RELEASEDIR)
        return sorted(name for name in found if name not in {".", ".."})


def _raw(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
