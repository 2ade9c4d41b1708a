"""Requests of a guest's kernel, one after the other, and their answers.

Refuses what no kernel sends by ending: the guest's file system is over then, and what is in the directory stays. What
is refused is told to the monitor, a line of JSON each on standard output, at most `REPORTS` of them.

    serve(socket.socket(fileno=0), tree)
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from capsem.processes.share.tree import Tree
from capsem.wire import fuse
from capsem.wire.frame import FrameError
from capsem.wire.fuse import Op, Request
from capsem.workspace.guards import Guards
from capsem.workspace.live import Limits

REPORTS = 200
_CHUNK = 1 << 18
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME = 1, 2, 4, 8, 16, 32
_ATIME_NOW, _MTIME_NOW = 128, 256
_NO_ANSWER = {Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT}


class Reports:
    """What was refused, told once each.

    Args:
        write: takes a line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._told: set[tuple[str, str]] = set()

    def __call__(self, act: str, path: str, why: str) -> None:
        """Tell of a refusal; after `REPORTS` of them nothing more."""
        if (act, path) in self._told or len(self._told) >= REPORTS:
            return
        self._told.add((act, path))
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self._write(json.dumps({"act": act, "path": shown[:1024], "why": why[:400]}) + "\n")


class Serving:
    """One guest's file system.

    Args:
        tree: what is served.
        now: nanoseconds since 1970.
    """

    def __init__(self, tree: Tree, now: Callable[[], int]) -> None:
        self._tree = tree
        self._now = now
        self.over = False
        self._agreed = False
        tree_of: dict[int, Callable[[Request], bytes]] = {
            Op.LOOKUP: lambda r: fuse.entry(tree.lookup(r.node, r.names()[0])),
            Op.GETATTR: lambda r: fuse.attributes(tree.attributes(r.node)),
            Op.SETATTR: self._change,
            Op.READLINK: lambda r: tree.target(r.node),
            Op.SYMLINK: lambda r: fuse.entry(tree.make_link(r.node, *r.link())),
            Op.LINK: lambda r: self._never(r, r.names(fuse.LINK)[0], "a hard link gives a file another name"),
            Op.MKNOD: self._make_file,
            Op.MKDIR: lambda r: fuse.entry(
                tree.make_directory(r.node, r.names(fuse.MKDIR)[0], r.fields(fuse.MKDIR)[0])
            ),
            Op.UNLINK: lambda r: self._remove(r, directory=False),
            Op.RMDIR: lambda r: self._remove(r, directory=True),
            Op.RENAME: self._move,
            Op.RENAME2: self._move,
            Op.OPEN: lambda r: fuse.opened(tree.open(r.node, r.fields(fuse.OPEN)[0])),
            Op.CREATE: self._create,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.STATFS: lambda r: fuse.space(*tree.space()),  # noqa: ARG005
            Op.RELEASE: self._close,
            Op.RELEASEDIR: self._close,
            Op.FSYNC: self._sync,
            Op.FSYNCDIR: self._sync,
            Op.OPENDIR: lambda r: fuse.opened(tree.open_directory(r.node)),
            Op.READDIR: self._list,
            Op.READDIRPLUS: self._list,
        }
        self._acts = tree_of

    def answered(self, request: Request) -> bytes:
        """The answer; nothing where the kernel waits for none.

        Raises:
            FrameError: no kernel asks that.
        """
        if request.op in _NO_ANSWER:
            if request.op != Op.INTERRUPT:
                for node, times in fuse.forgotten(request):
                    self._tree.nodes.forgotten(node, times)
            return b""
        if (request.op == Op.INIT) == self._agreed:
            raise FrameError(f"request {request.op} out of its place")
        if request.op == Op.INIT:
            self._agreed = True
            return fuse.agreed(request)
        if request.op == Op.DESTROY:
            self.over = True
            return fuse.answer(request.unique)
        act = self._acts.get(request.op)
        if act is None:
            return fuse.refusal(request.unique, errno.ENOSYS)
        try:
            return fuse.answer(request.unique, act(request))
        except OSError as error:
            return fuse.refusal(request.unique, error.errno or errno.EIO)

    def _never(self, request: Request, name: str, why: str) -> bytes:
        self._tree.refuse(request.node, name, why)
        return b""

    def _change(self, request: Request) -> bytes:
        valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = request.fields(
            fuse.SETATTR
        )
        times: tuple[int | None, int | None] | None = None
        if valid & (_ATIME | _MTIME):
            now = self._now()
            times = (
                None if not valid & _ATIME else now if valid & _ATIME_NOW else _time(atime, atime_ns),
                None if not valid & _MTIME else now if valid & _MTIME_NOW else _time(mtime, mtime_ns),
            )
        return fuse.attributes(
            self._tree.change(
                request.node,
                mode=mode & 0o7777 if valid & _MODE else None,
                size=size if valid & _SIZE else None,
                times=times,
                owner=(uid if valid & _UID else None, gid if valid & _GID else None),
            )
        )

    def _make_file(self, request: Request) -> bytes:
        mode = request.fields(fuse.MKNOD)[0]
        return fuse.entry(self._tree.make_file(request.node, request.names(fuse.MKNOD)[0], mode))

    def _remove(self, request: Request, *, directory: bool) -> bytes:
        self._tree.remove(request.node, request.names()[0], directory=directory)
        return b""

    def _move(self, request: Request) -> bytes:
        form = fuse.RENAME if request.op == Op.RENAME else fuse.RENAME2
        fields = request.fields(form)
        old, new = request.names(form, 2)
        self._tree.move(request.node, old, fields[0], new, fields[1] if len(fields) > 1 else 0)
        return b""

    def _create(self, request: Request) -> bytes:
        flags, mode, *_ = request.fields(fuse.CREATE)
        entry, handle = self._tree.create(request.node, request.names(fuse.CREATE)[0], flags, mode)
        return fuse.entry(entry) + fuse.opened(handle)

    def _read(self, request: Request) -> bytes:
        handle, at, size, *_ = request.fields(fuse.READ)
        return self._tree.files.read(handle, at, size)

    def _write(self, request: Request) -> bytes:
        handle, at, size, *_ = request.fields(fuse.WRITE)
        data = request.body[fuse.WRITE.size :]
        if len(data) != size:
            raise FrameError(f"{len(data)} bytes to write, and {size} are said")
        return fuse.written(self._tree.files.write(handle, at, data))

    def _close(self, request: Request) -> bytes:
        self._tree.files.close(request.fields(fuse.RELEASE)[0])
        return b""

    def _sync(self, request: Request) -> bytes:
        self._tree.files.sync(request.fields(fuse.FSYNC)[0])
        return b""

    def _list(self, request: Request) -> bytes:
        handle, after, size, *_ = request.fields(fuse.READ)
        find = (lambda name: self._tree.found(handle, name)) if request.op == Op.READDIRPLUS else None
        return fuse.listing(self._tree.files.names(handle, after), after, min(size, fuse.WRITE_LIMIT), find)


def _time(seconds: int, nanoseconds: int) -> int:
    if seconds >= 1 << 63:
        seconds -= 1 << 64
    if abs(seconds) >= 1 << 33 or nanoseconds >= 10**9:
        raise OSError(errno.EINVAL, "a time out of reason")
    return seconds * 10**9 + nanoseconds


def serve(sock: socket.socket, serving: Serving) -> None:
    """Until the guest's kernel or the machine has ended.

    Raises:
        FrameError: no kernel asks that.
    """
    buffer = bytearray()
    while not serving.over and (data := sock.recv(_CHUNK)):
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            size = fuse.length(bytes(buffer[at : at + 4]))
            if len(buffer) - at < size:
                break
            answer = serving.answered(fuse.parse(bytes(buffer[at : at + size])))
            at += size
            if answer:
                sock.sendall(answer)
        del buffer[:at]


def begun(told: dict[str, Any], write: Callable[[str], object], now: Callable[[], int]) -> Serving:
    """What serves the directory that the monitor names.

    Raises:
        OSError: it is not there, or another stands in its place.
    """
    root = os.open(told["directory"], os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    about = os.fstat(root)
    if [about.st_dev, about.st_ino] != told["identity"]:
        raise OSError(errno.ESTALE, f"{told['directory']} is another directory now")
    os.umask(0o022)
    return Serving(Tree(root, Guards.of_told(told["guards"]), Limits(**told["limits"]), Reports(write)), now)


def said(line: str) -> None:
    """A line to the monitor."""
    sys.stdout.write(line)
    sys.stdout.flush()
