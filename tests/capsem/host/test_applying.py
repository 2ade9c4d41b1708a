"""What is taken over from a machine, and what never is, judged on the host's own files; with controls."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.errors import ConflictError, NotFoundError
from capsem.host.applying import review, take_over
from capsem.host.workspace import Found, Workspace
from capsem.workspace.tree import Node, differences
from tests.capsem.host.test_workspace import project, workspace

pytestmark = [pytest.mark.usefixtures("capsem_home")]

Given = dict[str, bytes | str | None]
"""What a guest has, by name: bytes of a file, a link's target, None for a directory."""


def found(work: Workspace, given: Given, modes: dict[str, int] | None = None) -> Found:
    """As `fetch` brings it."""
    tree = {}
    for path, what in given.items():
        if isinstance(what, bytes):
            with work.objects.writer() as writer:
                writer.write(what)
                mode = (modes or {}).get(path, 0o644)
                tree[path] = Node("file", mode, len(what), 0, writer.keep())
        elif isinstance(what, str):
            tree[path] = Node("link", 0o777, target=what)
        else:
            tree[path] = Node("directory", 0o755)
    return Found(tree)


def seen(root: Path) -> Given:
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink()
        else path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }  # fmt: skip


@pytest.fixture
def work(tmp_path: Path, capsem_home: Path) -> Iterator[Workspace]:
    """A workspace whose base is the project without its secret."""
    root = project(tmp_path)
    for path in root.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    for path in (root / "src", root / "gone"):
        path.chmod(0o755)
    one = workspace(tmp_path, root)
    with one.held():
        one.keep_base(found(one, BASE).tree, left_out=[(".env", "denied")])
        yield one


BASE: Given = {"src": None, "src/a.py": b"one\n", "src/run": b"#!\n", "gone": None, "gone/x": b"x"}
SECRET: Given = {".env": b"secret"}


def test_all_that_changed_is_taken_over_and_then_nothing_is_left(work: Workspace) -> None:
    given: Given = {
        "src": None, "src/a.py": b"two\n", "src/run": b"#!\n", "new": None, "new/deep": None, "new/deep/x": b"n",
        "link": "src/a.py",
    }  # fmt: skip
    there = found(work, given, {"src/run": 0o755})
    reviewed = review(work, there)
    assert not reviewed.refused
    assert not reviewed.conflicts
    assert take_over(work, reviewed) == []
    assert seen(work.root) == given | SECRET
    assert (work.root / "src/run").stat().st_mode & 0o777 == 0o755
    assert differences(work.base(), there.tree) == []
    assert review(work, there).changes == []
    assert not [path for path in work.directory.iterdir() if path.name.startswith("upper-")]


def test_one_that_becomes_another_kind(work: Workspace) -> None:
    given: Given = {"src": b"a file now", "gone": "new", "new": None}
    reviewed = review(work, found(work, given))
    assert {one.path: one.action for one in reviewed.wanted} == {
        "src": "replaced",
        "gone": "replaced",
        "new": "added",
    }
    take_over(work, reviewed)
    assert seen(work.root) == given | SECRET
    back = found(work, BASE)
    take_over(work, review(work, back))
    assert seen(work.root) == BASE | SECRET


REFUSED: Given = {
    ".git/hooks/post-commit": b"evil", ".git/config": b"evil", "sub/.git/config": b"evil",
    ".vscode/tasks.json": b"evil",
    "capsule.yaml": b"version: 1\n", ".env": b"mine", "k.pem": b"x", "out": "/etc/passwd", "up": "../../x",
}  # fmt: skip


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_refused_by_name(work: Workspace, path: str) -> None:
    parents: Given = {path[:at]: None for at, char in enumerate(path) if char == "/"}
    reviewed = review(work, found(work, {**BASE, **parents, path: REFUSED[path], "ok": b"ok"}))
    assert path in {one.path for one in reviewed.refused}
    take_over(work, reviewed)
    after = seen(work.root)
    assert after["ok"] == b"ok", "the control: what is beside it is taken over"
    assert after.get(path) == SECRET.get(path)


def test_devices_and_fifos_are_refused(work: Workspace) -> None:
    there = found(work, BASE)
    there.special["f"] = "FIFO"
    assert [(one.path, one.refused) for one in review(work, there).refused] == [("f", "it is a FIFO")]


def test_where_the_host_changed_it_is_a_conflict(work: Workspace) -> None:
    root = work.root
    given: Given = {
        "src": None, "src/a.py": b"guest\n", "new": b"guest", "both": b"same", "made": None, "made/x": b"guest",
    }  # fmt: skip
    there = found(work, given)  # src/run and gone are removed
    (root / "src/a.py").write_text("host\n")
    (root / "src/run").write_text("host\n")
    (root / "new").write_text("host")
    (root / "both").write_text("same")
    (root / "both").chmod(0o644)
    (root / "made").write_text("a file")
    (root / "gone/x").unlink()
    reviewed = review(work, there)
    assert {one.path: one.conflict for one in reviewed.conflicts} == {
        "made": "it appeared on the host since the copy",
        "made/x": "the directory it lies in is not taken over",
        "new": "it appeared on the host since the copy",
        "src/a.py": "it changed on the host since the copy",
        "src/run": "it changed on the host since the copy",
    }
    assert reviewed.already == ["both", "gone/x"]
    take_over(work, reviewed)
    assert (root / "src/a.py").read_text() == "host\n"
    assert (root / "src/run").read_text() == "host\n"
    assert not (root / "gone").exists()
    left = {one.path for one in review(work, there).changes}
    assert left == {"src/a.py", "src/run", "new", "made", "made/x"}


def test_a_directory_that_holds_more_stays(work: Workspace) -> None:
    (work.root / "gone/.env").write_text("mine")
    there = found(work, {"src": None, "src/a.py": b"one\n", "src/run": b"#!\n"})
    assert take_over(work, review(work, there)) == ["gone"]
    assert seen(work.root)["gone/.env"] == b"mine"
    assert not (work.root / "gone/x").exists()
    work.keep_base(found(work, {"gone": None, "src": None}).tree, left_out=[])
    reviewed = review(work, found(work, {"gone": b"file", "src": None}))
    assert [one.conflict for one in reviewed.conflicts] == [".env in it is not what was copied"]


def test_parts_are_taken_over_with_the_directories_they_need(work: Workspace) -> None:
    there = found(work, {**BASE, "a": None, "a/b": None, "a/b/x": b"x", "a/y": b"y", "src/a.py": b"two\n"})
    reviewed = review(work, there, ("a/b/x",))
    assert [one.path for one in reviewed.wanted] == ["a", "a/b", "a/b/x"]
    take_over(work, reviewed)
    assert (work.root / "a/b/x").read_bytes() == b"x"
    assert [one.path for one in review(work, there).wanted] == ["a/y", "src/a.py"]
    with pytest.raises(NotFoundError, match="nothing changed at src/run"):
        review(work, there, ("src/run",))


def test_a_link_on_the_way_is_not_followed(work: Workspace, tmp_path: Path) -> None:
    """The host's directory has become a link since the copy."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.py").write_text("one\n")
    (work.root / "src").rename(tmp_path / "moved")
    (work.root / "src").symlink_to(outside)
    assert (work.root / "src/a.py").read_text() == "one\n", "the control: by its plain name it leads out"
    reviewed = review(work, found(work, {**BASE, "src/a.py": b"evil"}))
    assert [one.path for one in reviewed.conflicts] == ["src/a.py"]
    take_over(work, reviewed)
    assert (outside / "a.py").read_text() == "one\n"


def test_a_directory_that_is_gone_or_a_link_now_is_said(work: Workspace, tmp_path: Path) -> None:
    there = found(work, {**BASE, "new": b"n"})
    work.root.rename(tmp_path / "moved")
    with pytest.raises(NotFoundError, match="No such file"):
        review(work, there)
    work.root.symlink_to(tmp_path / "moved")
    with pytest.raises(NotFoundError, match="where it was copied from"):
        review(work, there)
    assert not (tmp_path / "moved/new").exists()


def test_a_failure_on_the_way_puts_everything_back(work: Workspace) -> None:
    there = found(work, {**BASE, "src/a.py": b"two\n", "zz": b"z"})
    reviewed = review(work, there)
    (work.root / "zz").write_text("the host's, just now")
    before, base = seen(work.root), work.base()
    with pytest.raises(ConflictError, match="put back"):
        take_over(work, reviewed)
    assert seen(work.root) == before
    assert work.base() == base


SWAP = """
import contextlib, os, sys
target, kept, outside = sys.argv[1:]
while True:
    with contextlib.suppress(OSError):
        os.rename(target, kept)
        os.symlink(outside, target)
        os.unlink(target)
        os.rename(kept, target)
"""


def leads_out(target: Path, outside: Path, within: float) -> bool:
    """Whether writing by a plain name comes out elsewhere: what shows that the swapping is real."""
    until = time.monotonic() + within
    while not any(outside.iterdir()):
        if time.monotonic() > until:
            return False
        with contextlib.suppress(OSError):
            (target / "control").write_text("x")
    return True


def test_a_link_swapped_in_a_loop_during_the_apply_never_leads_out(work: Workspace, tmp_path: Path) -> None:
    """Somebody swaps the directory for a link, over and over; by plain names this leads out (the control)."""
    outside, target = tmp_path / "outside", work.root / "swap"
    outside.mkdir()
    target.mkdir()
    swapping = subprocess.Popen([sys.executable, "-c", SWAP, target, tmp_path / "kept", outside])
    try:
        assert leads_out(target, outside, within=60), "INCONCLUSIVE: the control did not lead out"
        for path in outside.iterdir():
            path.unlink()
        tries = 0
        base = {**BASE, "swap": None}
        work.keep_base(found(work, base).tree, left_out=[])
        for number in range(60):
            given: Given = {**base, f"swap/x{number}": b"evil"}
            tries += 1
            with contextlib.suppress(ConflictError, OSError):
                take_over(work, review(work, found(work, given)))
            assert list(outside.iterdir()) == []
            work.keep_base(found(work, base).tree, left_out=[])
        assert tries == 60
    finally:
        swapping.kill()
        swapping.wait()
