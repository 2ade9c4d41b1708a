"""A repository that a machine makes in a live share: git works in it there, and no git of the host is led by it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from capsem.processes.share.repositories import host_name, machine_name
from capsem.wire.fuse import Op
from tests.capsem.processes.share.kernel import Kernel, refused, serving
from tests.capsem.processes.share.mounted import mounted

REPOSITORY, HEAD = ".git-of-a-machine", "HEAD-of-a-machine"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / "src").mkdir(parents=True)
    return place


@pytest.fixture
def kernel(root: Path) -> Kernel:
    return Kernel(serving(root)[0])


def bare(kernel: Kernel, at: int, mark: Path) -> None:
    """All that a repository is made of, and a program that git runs when it is asked how things are."""
    for name in ("objects", "refs"):
        kernel.mkdir(at, name)
    for name, text in (
        ("HEAD", "ref: refs/heads/x\n"),
        ("config", f'[core]\nbare = false\nworktree = ..\nfsmonitor = "touch {mark}; false"\n'),
    ):
        _, handle = kernel.create(at, name)
        kernel.write(handle, text.encode())
        kernel.close(handle)


def status(place: Path) -> int:
    """What a person's prompt runs; the code it ends with."""
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(place.parents[2]), "GIT_CONFIG_GLOBAL": "/dev/null"}
    return subprocess.run(["git", "status"], cwd=place, env=env, capture_output=True, check=False).returncode


@pytest.mark.needs("git")
@pytest.mark.parametrize("name", [".git", "src", "src/.git", "bare.git"])
def test_no_git_of_the_host_runs_what_a_machine_wrote(root: Path, kernel: Kernel, name: str) -> None:
    above, _, last = name.rpartition("/")
    mark = root.parent / "mark"
    parent = kernel.find(above)
    at = kernel.find("src") if name == "src" else kernel.mkdir(parent, last)
    bare(kernel, at, mark)
    # A machine moves what it likes.
    kernel.move(parent, last, parent, "old")
    kernel.move(parent, "old", parent, last)
    places = [root, *(one for one in root.rglob("*") if one.is_dir())]
    for place in places:
        assert status(place) != 0
    assert not mark.exists()
    names = {one.name for one in root.rglob("*")}
    assert not {".git", "HEAD"} & names
    # The control: under the names that git looks for, the same runs what the machine wrote.
    found = next(one for one in root.rglob(HEAD))
    control = root.parent / "a/b/control/.git"
    shutil.copytree(found.parent, control)
    (control / HEAD).rename(control / "HEAD")
    assert status(control.parent) == 0
    assert mark.exists()


def test_a_machine_sees_its_own_names_and_says_no_other(root: Path, kernel: Kernel) -> None:
    git = kernel.mkdir(1, ".git")
    kernel.put(".git/HEAD", b"ref: x\n")
    for op in (Op.READDIR, Op.READDIRPLUS):
        assert kernel.names(1, op) == [".git", "src"]
        assert kernel.names(git, op) == ["HEAD"]
    assert kernel.read(kernel.open(kernel.find(".git/HEAD"))) == b"ref: x\n"
    assert sorted(os.listdir(root)) == [REPOSITORY, "src"]
    for parent, name in ((1, REPOSITORY), (git, HEAD)):
        refused(errno.ENOENT, lambda parent=parent, name=name: kernel.lookup(parent, name))  # type: ignore[misc]
        refused(errno.EPERM, lambda parent=parent, name=name: kernel.mkdir(parent, name))  # type: ignore[misc]
        refused(errno.EPERM, lambda parent=parent, name=name: kernel.move(1, "src", parent, name))  # type: ignore[misc]
    kernel.remove(git, "HEAD")
    kernel.remove(1, ".git", Op.RMDIR)
    assert os.listdir(root) == ["src"]


def test_a_repository_of_the_host_is_the_machine_s_and_keeps_its_names(root: Path, kernel: Kernel) -> None:
    git = kernel.mkdir(1, ".git")
    kernel.put(".git/HEAD", b"of the machine")
    (root / ".git/logs").mkdir(parents=True)
    (root / ".git/HEAD").write_text("of the host")
    assert kernel.names(1) == [".git", "src"]
    assert kernel.read(kernel.open(kernel.find(".git/HEAD"))) == b"of the host"
    kernel.put(".git/logs/HEAD", b"moved\n")
    assert (root / ".git/logs/HEAD").read_bytes() == b"moved\n"
    refused(errno.EPERM, lambda: kernel.create(kernel.find(".git"), "config"))
    # What the machine opened before is still its own.
    kernel.create(git, "config")
    assert not (root / ".git/config").exists()
    assert (root / REPOSITORY / "config").exists()


def test_names_that_git_looks_for_do_not_leave_a_repository_of_the_host_with_a_directory(
    root: Path, kernel: Kernel
) -> None:
    """In there they are the host's own names: a directory that was filled there would be a repository outside."""
    (root / ".git").mkdir()
    git = kernel.find(".git")
    kernel.mkdir(git, "mine")
    kernel.put(".git/mine/HEAD", b"ref: refs/heads/x\n")
    assert (root / ".git/mine/HEAD").exists()
    refused(errno.EXDEV, lambda: kernel.move(git, "mine", 1, "mine"))
    refused(errno.EXDEV, lambda: kernel.move(1, "src", git, "src"))
    kernel.move(kernel.find(".git/mine"), "HEAD", kernel.find("src"), "HEAD")
    assert os.listdir(root / "src") == [HEAD]


def test_a_bare_repository_of_the_host_is_not_ruled_and_none_is_finished(root: Path, kernel: Kernel) -> None:
    for name in ("bare/objects", "bare/refs", "bare/hooks", "begun"):
        (root / name).mkdir(parents=True)
    for name in ("bare/HEAD", "begun/HEAD", "bare/config"):
        (root / name).write_text("as it was")
    bare, begun, src = (kernel.find(name) for name in ("bare", "begun", "src"))
    for name in ("objects", "config", "hooks"):
        kernel.mkdir(src, name)  # the control: without a HEAD of the host they are names like others
    for attack in (
        lambda: kernel.create(kernel.find("bare/hooks"), "post-update"),
        lambda: kernel.open(kernel.find("bare/config"), os.O_WRONLY),
        lambda: kernel.remove(bare, "config"),
        lambda: kernel.move(bare, "hooks", src, "other"),
        lambda: kernel.move(src, "hooks", bare, "modules"),
        lambda: kernel.create(bare, "commondir"),
        lambda: kernel.mkdir(begun, "objects"),
        lambda: kernel.move(src, "objects", begun, "objects"),
        lambda: kernel.mkdir(begun, "Refs"),
        lambda: kernel.create(begun, "commondir"),
    ):
        refused(errno.EPERM, attack)
    assert sorted(os.listdir(root / "bare")) == ["HEAD", "config", "hooks", "objects", "refs"]
    assert os.listdir(root / "begun") == ["HEAD"]
    assert (root / "bare/config").read_text() == "as it was"
    # What a push writes is written.
    kernel.mkdir(kernel.find("bare/objects"), "ab")
    kernel.put("bare/refs/x", b"1\n")
    kernel.put("bare/packed-refs", b"")
    assert (root / "bare/refs/x").read_bytes() == b"1\n"


def test_every_name_is_told_back_as_it_was_said(root: Path) -> None:
    at = os.open(root, os.O_PATH)
    try:
        for name in (".git", "HEAD", "head", ".GIT", "x"):
            assert machine_name(at, "", host_name(at, "", name)) == name
        for name in (REPOSITORY, HEAD):
            with pytest.raises(PermissionError):
                host_name(at, "", name)
            (root / name).touch()
            (root / machine_name(at, "", name)).touch()  # type: ignore[operator]
            assert machine_name(at, "", name) is None, "the host's own is shown"
    finally:
        os.close(at)


WORK = """
set -e
git init -q . && echo x >f && git add f && git commit -qm one
git config user.name somebody && git branch other && git checkout -q other
echo y >>f && git commit -qam two && git checkout -q - && git merge -q other
printf '#!/bin/sh\\ntouch hooked\\n' >.git/hooks/pre-commit && chmod +x .git/hooks/pre-commit
git commit -q --allow-empty -m three && test -e hooked && rm hooked
git worktree add -q -b third tree && git -C tree log --oneline | wc -l
git gc -q && git fsck && test -z "$(git status --short | grep -v -e tree -e kept)"
git clone -q . copy && mv copy/.git copy/old && mv copy/old copy/.git && git -C copy status --short
git init -q --bare far && git push -q ./far HEAD:refs/heads/x && git -C far log --oneline x | wc -l
git push -q ./kept.git HEAD:refs/heads/y && git -C kept.git log --oneline y | wc -l
git bundle create -q all.bundle --all
"""


@pytest.mark.needs("git", "fuse")
def test_git_itself_works_in_the_machine(root: Path) -> None:
    at = root.parent / "mounted"
    at.mkdir()
    subprocess.run(["git", "init", "-q", "--bare", root / "kept.git"], check=True, capture_output=True)
    kept = (root / "kept.git/config").read_text()
    who = " ".join(f"GIT_{one}_NAME=a GIT_{one}_EMAIL=a@b" for one in ("AUTHOR", "COMMITTER"))
    code, output, _ = mounted(root, at, f"export HOME=/nowhere {who}\n{WORK}")
    assert code == 0, output
    assert output.split() == ["3", "3", "3"]
    found = {str(one.relative_to(root)) for one in root.rglob("*") if one.name in {".git", "HEAD"}}
    assert found == {"kept.git/HEAD"}
    assert (root / "kept.git/config").read_text() == kept
    for place in (root, root / REPOSITORY, root / "tree", root / "copy", root / "far"):
        assert status(place) != 0, place
    # How it comes to the host: nothing of a bundle runs.
    taken = root.parent / "taken"
    subprocess.run(["git", "clone", "-q", root / "all.bundle", taken], check=True, capture_output=True)
    assert (taken / "f").read_text() == "x\ny\n"
