from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable

import pytest

from capsule.overlay.layer import open_below, remove_tree
from capsule.overlay.manifest import OverlayError
from tests.overlay.conftest import Made


def test_added_changed_and_removed(make: Callable[[], Made]) -> None:
    made = make()
    (made.root / "old").write_text("1")
    (made.root / "gone").write_text("1")
    (made.root / "same").write_text("1")
    (made.root / "d").mkdir()
    (made.root / "d" / "gone").write_text("1")
    made.begin()
    (made.upper / "old").write_text("2")
    (made.upper / "new").write_text("2")
    (made.upper / "same").write_text("1")
    (made.upper / "d").mkdir()
    (made.upper / "e" / "f").mkdir(parents=True)
    (made.upper / "e" / "f" / "g").write_text("2")
    made.whiteout("gone")
    made.whiteout("d/gone")
    made.whiteout("never")
    assert made.told() == {
        "old": "changed", "new": "added", "gone": "removed", "d/gone": "removed", "e": "added", "e/f": "added",
        "e/f/g": "added",
    }  # fmt: skip


def test_an_opaque_directory_takes_away_what_is_below(make: Callable[[], Made]) -> None:
    made = make()
    (made.root / "d" / "sub").mkdir(parents=True)
    (made.root / "d" / "a").write_text("1")
    (made.root / "d" / "b").write_text("1")
    made.begin()
    (made.upper / "d").mkdir()
    (made.upper / "d" / "b").write_text("2")
    try:
        os.setxattr(made.upper / "d", "user.overlay.opaque", b"y")
    except OSError as error:
        pytest.skip(f"needs user-xattr: {error}")
    assert made.told() == {"d/a": "removed", "d/sub": "removed", "d/b": "changed"}


def test_a_link_in_the_root_is_not_followed(make: Callable[[], Made]) -> None:
    made = make()
    outside = made.root.parent / "outside"
    outside.mkdir()
    (outside / "x").write_text("1")
    (made.root / "d").symlink_to(outside)
    made.begin()
    (made.upper / "d").mkdir()
    (made.upper / "d" / "x").write_text("2")
    assert made.told() == {"d": "replaced", "d/x": "added"}
    with pytest.raises(OSError, match=r"Not a directory|Too many"):
        open_below(made.root, "d/x")


def test_special_files_are_named_and_refused(make: Callable[[], Made]) -> None:
    made = make()
    made.begin()
    os.mkfifo(made.upper / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        os.chdir(made.upper)
        unix.bind("socket")
        with made.overlays().hold("r-1") as overlay:
            refused = {change.path: change.refused for _, change in overlay.changes()}
    assert refused == {"fifo": "it is a FIFO", "socket": "it is a socket"}


def conflicts(made: Made) -> dict[str, str]:
    with made.overlays().hold(None) as overlay:
        return {change.path: change.conflict for _, change in overlay.changes() if change.conflict}


def test_conflicts_with_the_host(make: Callable[[], Made]) -> None:
    made = make()
    for name in ("early", "late", "removed", "atomic"):
        (made.root / name).write_text("1")
        (made.root / f"{name}-directory").mkdir()
        (made.root / f"{name}-directory" / "x").write_text("1")
    made.begin()
    for name in ("early", "late", "removed"):
        (made.upper / name).write_text("2")
        made.whiteout(f"{name}-directory")
    for name in ("late", "new"):
        (made.root / name).write_text("3")
        (made.upper / name).write_text("4")
    (made.root / "late-directory" / "x").write_text("3")
    (made.root / "removed").unlink()
    (made.root / "removed-directory" / "x").unlink()
    assert conflicts(made) == {
        "late": "it changed on the host since the run began",
        "late-directory": "x in it changed on the host since the run began",
        "new": "it appeared on the host since the run began",
        "removed": "it was removed on the host since the run began",
        "removed-directory": "x in it was removed on the host since the run began",
    }


def test_what_the_host_moved_into_the_place_is_a_conflict_though_it_is_old(make: Callable[[], Made]) -> None:
    made = make()
    for name in ("d", "other"):
        (made.root / name).mkdir()
        (made.root / name / "x").write_text(name)
    (made.root / "gone").mkdir()
    (made.root / "gone" / "x").write_text("1")
    made.begin()
    for name in ("d", "gone"):
        (made.upper / name).mkdir()
        (made.upper / name / "x").write_text("2")
    (made.root / "d").rename(made.root / "away")
    (made.root / "other").rename(made.root / "d")
    (made.root / "gone" / "x").unlink()
    (made.root / "gone").rmdir()
    assert conflicts(made) == {
        "d/x": "it was replaced on the host since the run began",
        "gone": "it was removed on the host since the run began",
        "gone/x": "it was removed on the host since the run began",
    }


def test_a_guarded_name_is_refused(make: Callable[[], Made]) -> None:
    made = make()
    made.guards = [{"anchor": str(made.root / ".git"), "tail": "hooks", "why": "protect"}]
    (made.root / ".git" / "hooks").mkdir(parents=True)
    made.begin()
    made.whiteout(".git")
    with made.overlays().hold(None) as overlay:
        assert [bool(change.refused) for _, change in overlay.changes()] == [True]


def test_a_run_that_is_going_is_left_alone(make: Callable[[], Made]) -> None:
    made = make()
    made.begin()
    descriptor = os.open(made.directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(OverlayError, match="still going"), made.overlays().hold(None):
        pass
    with pytest.raises(OverlayError, match="still going"):
        made.overlays().discard("r-1")
    os.close(descriptor)
    assert made.overlays().discard("r-1") == "r-1"
    assert not made.directory.exists()


def test_there_may_be_none(make: Callable[[], Made]) -> None:
    made = make()
    made.begin()
    with pytest.raises(OverlayError, match="r-2"):
        made.overlays().discard("r-2")
    for hostile in ("../root", ".", ""):
        with pytest.raises(OverlayError):
            made.overlays().discard(hostile)
    made.overlays().discard(None)
    with pytest.raises(OverlayError, match="there is no overlay"):
        made.overlays().discard(None)


def test_directories_without_permissions_are_removed(make: Callable[[], Made]) -> None:
    made = make()
    deep = made.root / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "c").write_text("x")
    deep.chmod(0)
    remove_tree(made.root / "a")
    assert not (made.root / "a").exists()


def test_a_directory_nobody_may_read_is_read_and_left_as_it_was(make: Callable[[], Made]) -> None:
    made = make()
    made.begin()
    (made.upper / "shut").mkdir()
    (made.upper / "shut" / "inner").write_text("1")
    (made.upper / "shut").chmod(0)
    try:
        assert made.told() == {"shut": "added", "shut/inner": "added"}
        assert (made.upper / "shut").stat().st_mode & 0o7777 == 0
    finally:
        (made.upper / "shut").chmod(0o700)
