"""What a guest's kernel may do to a shared directory, judged by what is on the host."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from capsem.wire import fuse
from capsem.wire.frame import FrameError
from capsem.wire.fuse import Op
from capsem.workspace.live import Limits
from tests.capsem.processes.share.kernel import SECRET, Kernel, refused, serving


def test_what_one_side_writes_the_other_reads(root: Path, kernel: Kernel) -> None:
    kernel.put("src/b.py", b"b = 2\n")
    assert (root / "src/b.py").read_bytes() == b"b = 2\n"
    (root / "src/c.py").write_bytes(b"c = 3\n")
    assert kernel.read(kernel.open(kernel.find("src/c.py"))) == b"c = 3\n"
    for op in (Op.READDIR, Op.READDIRPLUS):
        assert kernel.names(kernel.find("src"), op) == ["a.py", "b.py", "c.py"]


def test_files_are_moved_cut_and_removed(root: Path, kernel: Kernel) -> None:
    src = kernel.find("src")
    made = kernel.mkdir(1, "made")
    kernel.move(src, "a.py", made, "z.py")
    node = kernel.lookup(made, "z.py")
    kernel.change(node, size=2)
    assert (root / "made/z.py").read_bytes() == b"a "
    kernel.change(node, mode=0o755)
    assert stat.S_IMODE((root / "made/z.py").stat().st_mode) == 0o755
    refused(errno.ENOTEMPTY, lambda: kernel.remove(1, "made", Op.RMDIR))
    kernel.remove(made, "z.py")
    kernel.remove(1, "made", Op.RMDIR)
    assert sorted(os.listdir(root)) == ["src"]
    kernel.create(src, "x")
    kernel.create(src, "y")
    refused(errno.EEXIST, lambda: kernel.move(src, "x", src, "y", 1))
    refused(errno.EINVAL, lambda: kernel.move(src, "x", src, "y", 2))


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"../outside", b"/etc", b"n" * 256])
def test_a_name_that_is_none_ends_it(kernel: Kernel, name: bytes) -> None:
    with pytest.raises(FrameError):
        kernel.lookup(1, name)


def test_a_file_is_cut_by_opening_it_to_read(root: Path, kernel: Kernel) -> None:
    node = kernel.find("src/a.py")
    handle = kernel.open(node, os.O_RDONLY | os.O_TRUNC)
    assert (root / "src/a.py").read_bytes() == b""
    kernel.close(handle)
    (root / ".git").mkdir()
    (root / ".git/config").write_text("[core]\n")
    refused(errno.EPERM, lambda: kernel.open(kernel.find(".git/config"), os.O_RDONLY | os.O_TRUNC))
    assert (root / ".git/config").read_text() == "[core]\n", "only what may be written is cut"


def test_a_hard_link_to_something_outside_is_not_written(root: Path, outside: Path) -> None:
    one, told = serving(root)
    kernel = Kernel(one)
    os.link(outside / "secret", root / "other")
    (root / "other").open("ab").close()
    node = kernel.find("other")
    for act in (
        lambda: kernel.open(node, os.O_WRONLY),
        lambda: kernel.open(node, os.O_RDONLY | os.O_TRUNC),
        lambda: kernel.change(node, size=0),
        lambda: kernel.change(node, mode=0o777),
        lambda: kernel.create(1, "other", os.O_WRONLY | os.O_TRUNC),
    ):
        refused(errno.EPERM, act)
    assert (outside / "secret").read_bytes() == SECRET
    assert stat.S_IMODE((outside / "secret").stat().st_mode) != 0o777
    assert kernel.read(kernel.open(node)) == SECRET, "a copy would have it, too"
    assert any("another name" in line for line in told)


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_nothing_but_files_and_directories_is_made(root: Path, kernel: Kernel, kind: int) -> None:
    body = fuse.MKNOD.pack(kind | 0o666, 0x103, 0, 0) + b"made\0"
    refused(errno.EPERM, lambda: kernel.ask(Op.MKNOD, 1, body))
    refused(errno.EPERM, lambda: kernel.ask(Op.LINK, 1, fuse.LINK.pack(kernel.find("src/a.py")) + b"made\0"))
    assert os.listdir(root) == ["src"]
    kernel.ask(Op.MKNOD, 1, fuse.MKNOD.pack(stat.S_IFREG | 0o644, 0, 0, 0) + b"made\0")
    assert sorted(os.listdir(root)) == ["made", "src"], "the positive control"


def test_nobody_gets_another_s_rights(root: Path, kernel: Kernel) -> None:
    node, _ = kernel.create(1, "tool", mode=0o106777)
    assert stat.S_IMODE((root / "tool").stat().st_mode) == 0o755
    for bits in (0o4755, 0o2755, 0o1755):
        refused(errno.EPERM, lambda bits=bits: kernel.change(node, mode=bits))  # type: ignore[misc]
    refused(errno.EPERM, lambda: kernel.change(node, owner=1000))
    kernel.change(node, owner=0)
    kernel.change(node, mode=0o666)
    assert stat.S_IMODE((root / "tool").stat().st_mode) == 0o644, "nobody else may write it"
    (root / "tool").chmod(0o4755)
    assert kernel.mode(node) == stat.S_IFREG | 0o755, "nor is such a bit of the host shown"


GUARDED = [
    ".git/hooks/post-commit", ".git/config", ".GIT/config", ".git/modules/a/hooks/x", "src/.GIT", "capsule.yaml",
    "old/.git/config", "old/.git", ".vscode/tasks.json", ".envrc", ".claude/settings.json", ".env", "src/.env",
]  # fmt: skip


@pytest.mark.parametrize("path", GUARDED)
def test_what_the_host_would_run_is_not_written(root: Path, path: str) -> None:
    for directory in (".git/hooks", ".git/modules/a", ".vscode", ".claude", "old/.git"):
        (root / directory).mkdir(parents=True)
    (root / ".git/config").write_text("[core]\n")
    one, told = serving(root)
    kernel = Kernel(one)
    before = {place: place.read_bytes() for place in root.rglob("*") if place.is_file()}

    def walked(parts: str) -> int:
        try:
            return kernel.find(parts)
        except FileNotFoundError:
            above, _, name = parts.rpartition("/")
            return kernel.mkdir(walked(above), name)

    def attack() -> None:
        above, _, name = path.rpartition("/")
        kernel.create(walked(above), name, os.O_WRONLY)

    with pytest.raises(PermissionError):
        attack()
    assert {place: place.read_bytes() for place in root.rglob("*") if place.is_file()} == before
    assert told


def test_a_guarded_name_is_not_stepped_around(root: Path, kernel: Kernel) -> None:
    """Each is a way to have the host run what the guest wrote, without ever writing a guarded name."""
    (root / ".git/hooks").mkdir(parents=True)
    (root / ".git/modules/m/hooks").mkdir(parents=True)
    (root / ".vscode").mkdir()
    git, src = kernel.find(".git"), kernel.find("src")
    evil = kernel.mkdir(src, "hooks")
    kernel.put("src/hooks/post-commit", b"evil")
    inner = kernel.mkdir(kernel.find(".git"), "mine")
    kernel.mkdir(inner, "hooks")
    kernel.mkdir(src, ".vscode")
    kernel.put("src/plain", b"evil")
    steps: list[Callable[[], object]] = [
        lambda: kernel.move(1, ".git", 1, "old"),
        lambda: kernel.move(src, "hooks", git, "hooks"),
        lambda: kernel.move(git, "hooks", 1, "old"),
        lambda: kernel.move(1, "src", 1, ".git"),
        lambda: kernel.move(git, "modules", 1, "old"),
        lambda: kernel.move(git, "mine", kernel.find(".git/modules"), "other"),
        lambda: kernel.move(src, ".vscode", 1, ".vscode"),
        lambda: kernel.move(src, "plain", 1, "capsule.yaml"),
        lambda: kernel.move(src, "plain", git, "commondir"),
        lambda: kernel.remove(git, "hooks", Op.RMDIR),
        lambda: kernel.remove(1, ".vscode", Op.RMDIR),
    ]
    for step in steps:
        with pytest.raises(PermissionError):
            step()
    assert evil
    assert sorted(os.listdir(root / ".git")) == ["hooks", "mine", "modules"]
    assert sorted(os.listdir(root)) == [".git", ".vscode", "src"]
    kernel.move(src, "hooks", 1, "moved")
    assert (root / "moved/post-commit").read_bytes() == b"evil", (
        "the positive control: other directories move"
    )


def test_secrets_are_not_shown(root: Path, kernel: Kernel) -> None:
    (root / ".env").write_bytes(SECRET)
    (root / "server.key").write_bytes(SECRET)
    assert kernel.names(1) == ["src"]
    assert kernel.names(1, Op.READDIRPLUS) == ["src"]
    for name in (".env", "server.key", ".ENV"):
        refused(errno.ENOENT, lambda name=name: kernel.lookup(1, name))  # type: ignore[misc]


def test_names_and_bytes_are_limited(root: Path) -> None:
    kernel = Kernel(serving(root, Limits(files=3, size=1000, open_files=64))[0])
    _, handle = kernel.create(1, "one")
    kernel.mkdir(1, "two")
    kernel.put("three", b"x" * 400)
    refused(errno.EDQUOT, lambda: kernel.create(1, "four"))
    refused(errno.EDQUOT, lambda: kernel.mkdir(1, "four"))
    refused(errno.EDQUOT, lambda: kernel.write(handle, b"x" * 601))
    refused(errno.EDQUOT, lambda: kernel.write(handle, b"x", at=1 << 40))
    refused(errno.EDQUOT, lambda: kernel.change(kernel.find("one"), size=601))
    assert kernel.write(handle, b"x" * 600) == 600
    assert sum(place.stat().st_size for place in root.rglob("*") if place.is_file()) == 6 + 1000
    kernel.remove(1, "three")
    kernel.put("four", b"y" * 400)
    refused(errno.EDQUOT, lambda: kernel.put("five", b""))
    # What has no name takes room until it is closed.
    kernel.remove(1, "one")
    kernel.put("five", b"")
    five = kernel.open(kernel.find("five"), os.O_WRONLY)
    refused(errno.EDQUOT, lambda: kernel.write(five, b"z" * 600))
    kernel.close(handle)
    assert kernel.write(five, b"z" * 600) == 600


def test_a_file_that_could_not_be_told_of_is_not_open(root: Path) -> None:
    kernel = Kernel(serving(root, Limits(nodes=1))[0])
    before = os.listdir("/proc/self/fd")
    for number in range(5):
        refused(errno.ENFILE, lambda number=number: kernel.create(1, f"more-{number}"))  # type: ignore[misc]
    assert os.listdir("/proc/self/fd") == before


def test_depth_is_limited(root: Path, kernel: Kernel) -> None:
    at = 1
    for _ in range(100):
        at = kernel.mkdir(at, "deeper")
    refused(errno.ENAMETOOLONG, lambda: kernel.mkdir(at, "deeper"))


def test_a_listing_leaves_room_for_what_is_asked_for(root: Path) -> None:
    """All names are told, and what they are as long as half of what may be known is left."""
    for number in range(60):
        (root / f"src/{number}").touch()
    kernel = Kernel(serving(root, Limits(nodes=40))[0])
    assert len(kernel.names(kernel.find("src"), Op.READDIRPLUS)) == 61
    for number in range(40, 55):
        kernel.close(kernel.open(kernel.find(f"src/{number}")))
