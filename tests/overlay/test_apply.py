from __future__ import annotations

import contextlib
import errno
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capsule.overlay.apply import Application
from capsule.overlay.change import Change
from capsule.overlay.manifest import OverlayError
from tests.overlay.conftest import Made


def changes(made: Made) -> list[Change]:
    with made.overlays().hold(None) as overlay:
        return [change for _, change in overlay.changes()]


def apply(made: Made) -> None:
    with Application(made.root, made.upper) as application:
        for change in changes(made):
            application.stage(change)
        application.commit()


def tree(root: Path) -> dict[str, str]:
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory) / name
            mode = "" if path.is_symlink() else f"{path.lstat().st_mode & 0o7777:o}"
            text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "/"
            found[str(path.relative_to(root))] = f"{mode} {text}"
    return found


@pytest.fixture
def made(make: Callable[[], Made]) -> Made:
    made = make()
    os.umask(0o022)
    for name in ("old", "gone", "run", "becomes-directory"):
        (made.root / name).write_text("1")
    (made.root / "d" / "sub").mkdir(parents=True)
    (made.root / "d" / "sub" / "x").write_text("1")
    (made.root / "becomes-file").mkdir()
    (made.root / "becomes-file" / "x").write_text("1")
    made.begin()
    (made.upper / "old").write_text("2")
    (made.upper / "setuid").write_text("2")
    (made.upper / "setuid").chmod(0o6755)
    (made.upper / "run").write_text("1")
    (made.upper / "run").chmod(0o755)
    (made.upper / "link").symlink_to("/etc/passwd")
    (made.upper / "becomes-directory").mkdir()
    (made.upper / "becomes-directory" / "y").write_text("2")
    (made.upper / "becomes-file").write_text("2")
    (made.upper / "locked").mkdir()
    (made.upper / "locked" / "z").write_text("2")
    (made.upper / "locked").chmod(0o555)
    os.link(made.upper / "setuid", made.upper / "twin")
    made.whiteout("gone")
    made.whiteout("d")
    return made


def test_holes_stay_holes_and_times_stay(make: Callable[[], Made]) -> None:
    made = make()
    made.begin()
    with (made.upper / "sparse").open("wb") as file:
        file.truncate(3 << 30)
        file.seek(1 << 30)
        file.write(b"middle")
    os.utime(made.upper / "sparse", ns=(1, 1_000_000_000_000_000_001))
    apply(made)
    found = (made.root / "sparse").stat()
    assert (found.st_size, found.st_mtime_ns) == (3 << 30, 1_000_000_000_000_000_001)
    assert found.st_blocks * 512 < 1 << 20
    with (made.root / "sparse").open("rb") as file:
        file.seek((1 << 30) - 1)
        assert file.read(8) == b"\0middle\0"


def test_everything_is_taken_over(made: Made) -> None:
    apply(made)
    assert tree(made.root) == {
        "old": "644 2",
        "setuid": "755 2",
        "twin": "755 2",
        "run": "755 1",
        "link": " /etc/passwd",
        "becomes-directory": "755 /",
        "becomes-directory/y": "644 2",
        "becomes-file": "644 2",
        "locked": "555 /",
        "locked/z": "644 2",
    }
    assert (made.root / "setuid").stat().st_nlink == 1


def test_several_names_of_one_file_are_taken_over_together(make: Callable[[], Made]) -> None:
    made = make()
    for name in ("a", "b", "c", "kept"):
        os.link(made.root / "a", made.root / name) if name != "a" else (made.root / name).write_text("1")
    made.begin()
    made.whiteout("a")
    (made.upper / "b").write_text("2")
    (made.upper / "c").mkdir()
    apply(made)
    assert tree(made.root) == {"b": "644 2", "c": "755 /", "kept": "644 1"}


def test_another_name_does_not_hide_what_the_host_changed(make: Callable[[], Made]) -> None:
    made = make()
    (made.root / "a").write_text("1")
    os.link(made.root / "a", made.root / "b")
    (made.root / "c").write_text("1")
    made.begin()
    for name in ("a", "b", "c"):
        made.whiteout(name)
    wanted = changes(made)
    (made.root / "c").unlink()
    (made.root / "c").mkdir()
    (made.root / "c" / "host").write_text("host")

    def fail() -> None:
        with Application(made.root, made.upper) as application:
            for change in wanted:
                application.stage(change)
            application.commit()

    with pytest.raises(OverlayError, match="'c' changed on the host just now") as caught:
        fail()
    assert "capsule apply --force" in str(caught.value)
    # What the message says: moving a name away and back is a change too.
    assert all(change.conflict for change in changes(made))
    assert {name: text for name, text in tree(made.root).items() if "/" not in name} == {
        "a": "644 1", "b": "644 1", "c": "755 /",
    }  # fmt: skip
    assert (made.root / "c" / "host").read_text() == "host"


def test_a_failure_on_the_way_puts_everything_back(made: Made) -> None:
    before = tree(made.root)
    wanted = changes(made)

    def fail() -> None:
        with Application(made.root, made.upper) as application:
            for change in wanted:
                application.stage(change)
            # The last one finds something that came meanwhile.
            (made.root / "twin").write_text("host")
            application.commit()

    with pytest.raises(OverlayError, match="put back"):
        fail()
    (made.root / "twin").unlink()
    assert tree(made.root) == before


def test_a_link_planted_on_the_way_is_not_followed(make: Callable[[], Made]) -> None:
    made = make()
    outside = made.root.parent / "outside"
    outside.mkdir()
    (made.root / "d").mkdir()
    made.begin()
    (made.upper / "d").mkdir()
    (made.upper / "d" / "x").write_text("2")
    wanted = changes(made)
    (made.root / "d").rmdir()
    (made.root / "d").symlink_to(outside)

    def plant() -> None:
        with Application(made.root, made.upper) as application:
            for change in wanted:
                application.stage(change)
            application.commit()

    with pytest.raises(OSError, match=r"Not a directory|Too many"):
        plant()
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in made.root.iterdir()) == ["d"]


def test_a_layer_that_changes_meanwhile_leads_nowhere(make: Callable[[], Made]) -> None:
    made = make()
    made.begin()
    secret = made.root.parent / "secret"
    secret.write_text("secret")
    (made.upper / "x").write_text("2")
    wanted = changes(made)
    (made.upper / "x").unlink()
    (made.upper / "x").symlink_to(secret)
    with pytest.raises(OSError, match="Too many"), Application(made.root, made.upper) as application:
        application.stage(wanted[0])
    assert list(made.root.iterdir()) == []


def test_a_refused_change_is_never_staged(make: Callable[[], Made]) -> None:
    made = make()
    made.begin()
    os.mkfifo(made.upper / "fifo")
    with pytest.raises(OverlayError, match="FIFO"), Application(made.root, made.upper) as application:
        application.stage(changes(made)[0])
    assert list(made.root.iterdir()) == []


def test_what_a_file_of_the_host_has_beside_its_content_stays(make: Callable[[], Made]) -> None:
    made = make()
    (made.root / "old").write_text("1")
    os.setxattr(made.root / "old", "user.kept", b"mine")
    # Version 2; the owner reads and writes, user 7 reads, the group nothing, the mask reads, others nothing.
    entries = [(1, 6, -1), (2, 4, 7), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(made.root / "old", "system.posix_acl_access", listed)
    made.begin()
    for name in ("old", "new"):
        (made.upper / name).write_text("2")
        (made.upper / name).chmod(0o640)
        os.setxattr(made.upper / name, "user.theirs", b"x")
    apply(made)
    assert [(made.root / name).read_text() for name in ("old", "new")] == ["2", "2"]
    assert os.listxattr(made.root / "new") == []
    kept = {name: os.getxattr(made.root / "old", name) for name in os.listxattr(made.root / "old")}
    assert kept == {"user.kept": b"mine", "system.posix_acl_access": listed}
    assert (made.root / "old").stat().st_mode & 0o777 == 0o640


def _replaced(made: Made, mode: int = 0o644) -> None:
    (made.root / "old").write_text("1")
    (made.root / "old").chmod(mode)
    made.begin()
    (made.upper / "old").write_text("2")
    (made.upper / "old").chmod(0o640)
    apply(made)
    assert (made.root / "old").read_text() == "2"


def test_a_file_without_an_access_list_gets_none_from_the_directory(make: Callable[[], Made]) -> None:
    made = make()
    entries = [(1, 7, -1), (2, 7, 7), (4, 0, -1), (16, 7, -1), (32, 0, -1)]
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    (made.root / "old").write_text("1")
    os.setxattr(made.root, "system.posix_acl_default", listed)
    _replaced(made)
    assert os.listxattr(made.root / "old") == []
    assert (made.root / "old").stat().st_mode & 0o777 == 0o640


def test_where_a_file_cannot_be_read_there_is_nothing_to_keep(make: Callable[[], Made]) -> None:
    _replaced(make(), 0o200)


def test_a_file_system_without_attributes_has_none_to_keep(
    make: Callable[[], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    made = make()
    (made.root / "old").write_text("1")
    made.begin()
    (made.upper / "old").write_text("2")
    with Application(made.root, made.upper) as application:
        (change,) = changes(made)
        for name in ("listxattr", "removexattr"):
            monkeypatch.setattr(os, name, none)
        application.stage(change)
        application.commit()
    assert (made.root / "old").read_text() == "2"


@contextlib.contextmanager
def few_files(count: int) -> Iterator[None]:
    """This process may have only so many files open, until it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (count, hard), "it is put back"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def many(made: Made, directories: int, files: int) -> dict[str, str]:
    """A layer that changes and adds that many files in each of so many directories; what the root then has."""
    for number in range(directories):
        place = made.root / f"d{number}"
        place.mkdir()
        for name in range(files):
            (place / f"f{name}").write_text("1")
    made.begin()
    for number in range(directories):
        place = made.upper / f"d{number}"
        place.mkdir()
        for name in range(files * 2):
            (place / f"f{name}").write_text("2")
        (made.upper / f"new{number}").mkdir()
    return tree(made.upper)


@pytest.mark.parametrize(("directories", "files"), [(1, 400), (300, 1)])
def test_more_changes_than_files_may_be_open_are_taken_over(
    make: Callable[[], Made], directories: int, files: int
) -> None:
    made = make()
    wanted = many(made, directories, files)
    with few_files(open_files() + 100):
        apply(made)
    assert tree(made.root) == wanted


def test_more_changes_than_files_may_be_open_are_put_back(make: Callable[[], Made]) -> None:
    made = make()
    many(made, 300, 1)
    before = tree(made.root)

    def fail() -> None:
        with Application(made.root, made.upper) as application:
            for change in changes(made):
                application.stage(change)
            application.commit()
            raise ZeroDivisionError

    with few_files(open_files() + 100), pytest.raises(ZeroDivisionError):
        fail()
    assert tree(made.root) == before


LIMITED = """
import resource, sys
from pathlib import Path
from capsule.overlay.apply import Application
from capsule.overlay.layer import Overlays
root, upper, state = map(Path, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
with Overlays(state).hold(None) as overlay, Application(root, upper) as application:
    for _, change in overlay.changes():
        application.stage(change)
    application.commit()
"""


def test_where_no_more_files_may_be_open_nothing_is_touched_and_it_is_said(make: Callable[[], Made]) -> None:
    made = make()
    many(made, 300, 1)
    before = tree(made.root)
    words = [sys.executable, "-c", LIMITED, str(made.root), str(made.upper), str(made.state)]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode != 0
    assert "the changes lie in 301 directories" in told.stderr
    assert "may have 128 files open at once" in told.stderr
    assert tree(made.root) == before
