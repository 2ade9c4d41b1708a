"""The way to a name: no link is followed, whatever is swapped, and only what has a kind that is shown is there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from capsem.wire.fuse import Op
from tests.capsem.processes.share.kernel import SECRET, Kernel, refused


def test_a_link_of_the_host_is_shown_and_never_followed(root: Path, outside: Path, kernel: Kernel) -> None:
    (root / "file").symlink_to(outside / "secret")
    (root / "tree").symlink_to(outside)
    (root / "up").symlink_to("../outside")
    assert (root / "up/secret").read_bytes() == SECRET, "the positive control: the links lead out"
    for name in ("file", "tree", "up"):
        node = kernel.lookup(1, name)
        assert stat.S_ISLNK(kernel.mode(node))
        refused(errno.ENOTDIR, lambda node=node: kernel.lookup(node, "secret"))  # type: ignore[misc]
        refused(errno.ENOTDIR, lambda node=node: kernel.create(node, "made"))  # type: ignore[misc]
        with pytest.raises(OSError, match=r"."):
            kernel.open(node)
        with pytest.raises(OSError, match=r"."):
            kernel.change(node, mode=0o777)
    assert kernel.ask(Op.READLINK, kernel.find("up")) == b"../outside"
    assert os.listdir(outside) == ["secret"]


def test_a_link_swapped_in_a_loop_is_never_followed(root: Path, outside: Path, kernel: Kernel) -> None:
    """The host swaps a file and a directory for links that lead out, all the time."""
    (root / "file").write_bytes(b"inside")
    (root / "tree").mkdir()
    (root / "tree/secret").write_bytes(b"inside")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for name, target in (("file", outside / "secret"), ("tree", outside)):
                (root / "link").symlink_to(target)
                os.rename(root / name, root / "kept")
                os.rename(root / "link", root / name)
                os.rename(root / name, root / "link")
                os.rename(root / "kept", root / name)
                (root / "link").unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    seen: set[bytes] = set()
    tried = followed = 0
    try:
        for _ in range(1500):
            for path in ("file", "tree/secret"):
                # The positive control: who opens by name is led out.
                with contextlib.suppress(OSError):
                    followed += (root / path).read_bytes() == SECRET
                tried += 1
                try:
                    node = kernel.find(path)
                    handle = kernel.open(node, os.O_RDWR)
                except OSError:
                    continue
                seen.add(kernel.read(handle))
                kernel.write(handle, b"inside")
                kernel.close(handle)
                with contextlib.suppress(OSError):
                    kernel.change(node, mode=0o600)
                with contextlib.suppress(OSError):
                    kernel.change(node, size=6)
                with contextlib.suppress(OSError):
                    kernel.close(kernel.create(kernel.find("tree"), "made")[1])
    finally:
        over.set()
        thread.join()
    assert seen == {b"inside"}
    assert tried == 3000
    assert (outside / "secret").read_bytes() == SECRET
    assert os.listdir(outside) == ["secret"]
    if not followed:
        pytest.skip("inconclusive: the links were never in place when they were looked at")


def test_what_is_no_file_is_not_there(root: Path, kernel: Kernel) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(root, os.O_PATH)
        sock.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    assert kernel.names(1) == ["src"]
    for name in ("fifo", "socket"):
        refused(errno.ENOENT, lambda name=name: kernel.lookup(1, name))  # type: ignore[misc]


def test_a_fifo_swapped_in_does_not_hold_it_up(root: Path, kernel: Kernel) -> None:
    node = kernel.find("src/a.py")
    (root / "src/a.py").unlink()
    os.mkfifo(root / "src/a.py")
    refused(errno.ENOENT, lambda: kernel.open(node, os.O_WRONLY))
    refused(errno.ENOENT, lambda: kernel.change(node, mode=0o600))


def test_a_directory_swapped_for_another_is_not_reached_by_what_was_known(
    root: Path, outside: Path, kernel: Kernel
) -> None:
    node = kernel.find("src/a.py")
    (root / "src").rename(root / "kept")
    (root / "src").symlink_to(outside)
    (outside / "a.py").write_bytes(SECRET)
    assert (root / "src/a.py").read_bytes() == SECRET, "the positive control"
    for act in (lambda: kernel.open(node), lambda: kernel.mode(node), lambda: kernel.change(node, size=0)):
        refused(errno.ENOTDIR, act)
    assert (outside / "a.py").read_bytes() == SECRET
