"""Files that a guest has open: how many, and what a handle may be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from capsem.wire import fuse
from capsem.wire.fuse import Op
from capsem.workspace.live import Limits
from tests.capsem.processes.share.kernel import Kernel, refused, serving


def test_a_file_without_a_name_can_still_be_used(root: Path, kernel: Kernel) -> None:
    node, handle = kernel.create(1, "temporary")
    kernel.remove(1, "temporary")
    kernel.write(handle, b"still here")
    kernel.change(node, size=5)
    assert kernel.read(handle) == b"still"
    assert stat.S_ISREG(kernel.mode(node))
    kernel.close(handle)
    refused(errno.ENOENT, lambda: kernel.mode(node))


def test_open_files_are_limited(root: Path) -> None:
    kernel = Kernel(serving(root, Limits(open_files=8))[0])
    node = kernel.find("src/a.py")
    handles = [kernel.open(node) for _ in range(8)]
    refused(errno.ENFILE, lambda: kernel.open(node))
    refused(errno.ENFILE, lambda: kernel.open(1, op=Op.OPENDIR))
    refused(errno.ENFILE, lambda: kernel.create(1, "more"))
    before = len(os.listdir("/proc/self/fd"))
    for handle in handles:
        kernel.close(handle)
    assert len(os.listdir("/proc/self/fd")) == before - 8
    kernel.close(kernel.open(node))


def test_handles_and_nodes_that_never_were_are_refused(kernel: Kernel) -> None:
    refused(errno.EBADF, lambda: kernel.read(99))
    refused(errno.EBADF, lambda: kernel.write(99, b"x"))
    refused(errno.EBADF, lambda: kernel.close(99))
    refused(errno.ESTALE, lambda: kernel.mode(99))
    readable = kernel.open(kernel.find("src/a.py"))
    refused(errno.EBADF, lambda: kernel.write(readable, b"x"))
    directory = kernel.open(1, op=Op.OPENDIR)
    with pytest.raises(OSError, match=r"."):
        kernel.read(directory)


def test_names_of_open_directories_are_limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsem.processes.share.opened._LISTED", 30)
    for number in range(18):
        (root / f"src/{number}").touch()
    kernel = Kernel(serving(root)[0])
    node = kernel.find("src")
    handle = kernel.open(node, op=Op.OPENDIR)
    before = os.listdir("/proc/self/fd")
    refused(errno.ENFILE, lambda: kernel.open(node, op=Op.OPENDIR))
    assert os.listdir("/proc/self/fd") == before
    kernel.close(handle, Op.RELEASEDIR)
    assert len(kernel.names(node)) == 19
    assert kernel.ask(Op.STATFS, fuse.ROOT)
