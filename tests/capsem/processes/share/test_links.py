"""Links that a guest makes in a shared directory: for it they are links, on the host they are files."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

import pytest

from capsem.wire import fuse
from capsem.wire.fuse import Op
from capsem.workspace.live import LINK_BIT, LINK_HEAD, TARGET_LIMIT, Limits
from tests.capsem.processes.share.kernel import Kernel, refused, serving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / "bin").mkdir(parents=True)
    (place / "tool").write_text("tool\n")
    return place


def link(kernel: Kernel, parent: int, name: str, target: bytes) -> int:
    answer = kernel.ask(Op.SYMLINK, parent, name.encode() + b"\0" + target + b"\0")
    return int.from_bytes(answer[:8], "little")


def size(kernel: Kernel, node: int) -> int:
    return int(struct.unpack_from("<Q", kernel.ask(Op.GETATTR, node, bytes(16)), 16 + 8)[0])


def kinds(kernel: Kernel, node: int) -> dict[str, int]:
    """Names of a directory and the kinds that its list has."""
    handle, found, at = kernel.open(node, op=Op.OPENDIR), {}, 0
    while told := kernel.ask(Op.READDIR, node, fuse.READ.pack(handle, at, 4096, 0, 0, 0, 0)):
        while told:
            _, at, length, kind = struct.unpack_from("<QQII", told)
            found[told[24 : 24 + length].decode()] = kind << 12
            told = told[24 + length + -length % 8 :]
    kernel.close(handle, Op.RELEASEDIR)
    return found


@pytest.mark.parametrize(
    "target", [b"../tool", b"/etc/passwd", b"../../../outside", b".git/hooks", b"\xff\n\x1b[2J"]
)
def test_wherever_it_leads_it_is_a_file_of_the_host(root: Path, kernel: Kernel, target: bytes) -> None:
    node = link(kernel, kernel.find("bin"), "link", target)
    assert stat.S_ISLNK(kernel.mode(node))
    assert kernel.ask(Op.READLINK, node) == target
    assert size(kernel, node) == len(target), "as programs expect it of a link"
    place = root / "bin/link"
    about = place.lstat()
    assert stat.S_ISREG(about.st_mode)
    assert about.st_mode & 0o7777 == 0o644 | LINK_BIT
    assert place.read_bytes() == LINK_HEAD + target
    # It is the same after the guest's kernel has forgotten everything, and in a list.
    again = Kernel(serving(root)[0])
    assert again.ask(Op.READLINK, again.find("bin/link")) == target
    assert stat.S_ISLNK(kinds(again, again.find("bin"))["link"])
    assert again.names(again.find("bin"), Op.READDIRPLUS) == ["link"]


def test_it_is_moved_and_removed_as_other_names(root: Path, kernel: Kernel) -> None:
    bin_ = kernel.find("bin")
    link(kernel, bin_, "link", b"../tool")
    kernel.move(bin_, "link", 1, "other")
    assert kernel.ask(Op.READLINK, kernel.find("other")) == b"../tool"
    kernel.put("plain", b"x")
    kernel.move(1, "plain", 1, "other")
    assert (root / "other").read_bytes() == b"x"
    refused(errno.EINVAL, lambda: kernel.ask(Op.READLINK, kernel.find("other")))
    link(kernel, bin_, "link", b"../tool")
    kernel.remove(bin_, "link")
    assert os.listdir(root / "bin") == []


def test_it_is_not_made_over_a_name_nor_under_one_that_is_kept(root: Path, kernel: Kernel) -> None:
    (root / ".git/hooks").mkdir(parents=True)
    refused(errno.EEXIST, lambda: link(kernel, 1, "tool", b"x"))
    for parent, name in (
        ("", "capsule.yaml"),
        (".git/hooks", "post-commit"),
        (".git", "config"),
        ("bin", ".GIT"),
    ):
        refused(errno.EPERM, lambda parent=parent, name=name: link(kernel, kernel.find(parent), name, b"x"))  # type: ignore[misc]
    assert os.listdir(root / ".git/hooks") == []
    assert (root / "tool").read_text() == "tool\n"


def test_no_link_leads_nowhere_or_too_far(root: Path, kernel: Kernel) -> None:
    refused(errno.ENOENT, lambda: link(kernel, 1, "link", b""))
    refused(errno.ENAMETOOLONG, lambda: link(kernel, 1, "link", b"x" * (TARGET_LIMIT + 1)))
    assert not (root / "link").exists()
    assert kernel.ask(Op.READLINK, link(kernel, 1, "link", b"x" * TARGET_LIMIT)) == b"x" * TARGET_LIMIT


def test_a_guest_that_opens_it_all_the_same_changes_nothing(root: Path, kernel: Kernel) -> None:
    node = link(kernel, 1, "link", b"tool")
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        refused(errno.ELOOP, lambda flags=flags: kernel.open(node, flags))  # type: ignore[misc]
    refused(errno.ELOOP, lambda: kernel.create(1, "link", os.O_RDWR | os.O_CREAT))
    refused(errno.EOPNOTSUPP, lambda: kernel.change(node, mode=0o755))
    refused(errno.EOPNOTSUPP, lambda: kernel.change(node, size=0))
    assert (root / "link").read_bytes() == LINK_HEAD + b"tool"
    # Times are of the link itself, as tar and npm set them.
    kernel.ask(Op.SETATTR, node, fuse.SETATTR.pack(32, 0, 0, 0, 0, 0, 1000, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    assert (root / "link").stat().st_mtime == 1000
    assert stat.S_ISLNK(kernel.mode(node))


def test_a_guest_cannot_have_a_file_taken_for_a_link_of_the_host(root: Path, kernel: Kernel) -> None:
    kernel.put("fake", LINK_HEAD + b"/etc/passwd")
    assert stat.S_ISREG(kernel.mode(kernel.find("fake")))
    refused(errno.EPERM, lambda: kernel.change(kernel.find("fake"), mode=0o1644))
    # What the host made so is one: it tells the guest's kernel where to look in the guest.
    (root / "fake").chmod(0o1644)
    assert kernel.ask(Op.READLINK, kernel.find("fake")) == b"/etc/passwd"


@pytest.mark.parametrize(
    "content", [b"", b"tool", LINK_HEAD, LINK_HEAD + b"a\0b", LINK_HEAD + b"x" * 4096, b"#" + LINK_HEAD]
)
def test_a_file_with_that_bit_that_stands_for_no_link_is_a_file(
    root: Path, kernel: Kernel, content: bytes
) -> None:
    (root / "sticky").write_bytes(content)
    (root / "sticky").chmod(0o1644)
    node = kernel.find("sticky")
    assert stat.S_ISREG(kernel.mode(node))
    assert kernel.read(kernel.open(node), size=8192) == content
    assert stat.S_ISREG(kinds(kernel, 1)["sticky"])


def test_links_count_as_names_and_bytes(root: Path) -> None:
    kernel = Kernel(serving(root, Limits(files=2, size=1000))[0])
    link(kernel, 1, "one", b"x" * 900)
    refused(errno.EDQUOT, lambda: link(kernel, 1, "two", b"x" * 200))
    link(kernel, 1, "two", b"x")
    refused(errno.EDQUOT, lambda: link(kernel, 1, "three", b"x"))
    assert sorted(os.listdir(root)) == ["bin", "one", "tool", "two"]
    kernel.remove(1, "one")
    link(kernel, 1, "three", b"x" * 900)


def test_where_the_file_system_keeps_no_such_bit_none_is_made(
    root: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fchmod", lambda *_: None)
    for _ in range(3):
        refused(errno.EPERM, lambda: link(kernel, 1, "link", b"tool"))
    assert not (root / "link").exists()


def test_links_of_the_host_are_shown_as_before(root: Path, kernel: Kernel) -> None:
    (root / "real").symlink_to("/etc/passwd")
    node = kernel.find("real")
    assert kernel.ask(Op.READLINK, node) == b"/etc/passwd"
    refused(errno.EPERM, lambda: kernel.change(node, mode=0o644))
