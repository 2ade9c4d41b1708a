"""A tree from a machine on the host: whole or not at all, and nothing beside it."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from capsem.errors import ConflictError
from capsem.host.extract import Extraction
from capsem.wire.archive import ArchiveError, Limits
from tests.capsem.wire.test_archive import directory, member, tar


def extract(
    data: bytes, target: Path, limits: Limits | None = None, before_the_end: Callable[[], None] = lambda: None
) -> None:
    with Extraction(target, limits) as extraction:
        extraction.feed(data)
        before_the_end()
        extraction.finish()


def test_a_tree_is_made_with_its_modes_times_and_links(tmp_path: Path) -> None:
    data = tar(
        member("./", tarfile.DIRTYPE, mode=0o750, mtime=5), member("d", tarfile.DIRTYPE, mode=0o555, mtime=6),
        member("d/x", size=3, mode=0o4751, mtime=7), member("d/l", tarfile.SYMTYPE, linkname="x"),
        member("f", tarfile.FIFOTYPE), member("c", tarfile.CHRTYPE), member("out", tarfile.SYMTYPE, linkname="/etc"),
    )  # fmt: skip
    with Extraction(tmp_path / "t") as extraction:
        for place in range(0, len(data), 700):
            extraction.feed(data[place : place + 700])
        assert not (tmp_path / "t").exists()
        extraction.finish()
    made = {str(path.relative_to(tmp_path)) for path in (tmp_path / "t").rglob("*")}
    assert made == {"t/d", "t/d/x", "t/d/l"}
    x = (tmp_path / "t/d/x").stat()
    assert ((tmp_path / "t/d/x").read_bytes(), stat.S_IMODE(x.st_mode), x.st_mtime) == (b"xxx", 0o751, 7)
    assert stat.S_IMODE((tmp_path / "t/d").stat().st_mode) == 0o555
    assert ((tmp_path / "t").stat().st_mtime, (tmp_path / "t/d").stat().st_mtime) == (5, 6)
    assert (tmp_path / "t/d/l").readlink() == Path("x")
    assert dict(extraction.left_out) == {
        "d/x": "its mode bits 4000 alone", "f": "it is a FIFO", "c": "it is a device",
        "out": "it is a link that leads out",
    }  # fmt: skip
    assert (extraction.names, extraction.size) == (3, 3)
    (tmp_path / "t/d").chmod(0o755)


@pytest.mark.parametrize("bad", ["link", "broken", "huge"])
def test_what_breaks_off_leaves_nothing(tmp_path: Path, bad: str) -> None:
    (tmp_path / "outside").mkdir()
    start = [member("a", tarfile.SYMTYPE, linkname="../outside"), member("x", size=5000)]
    members = {
        "link": [*start, member("a/evil", size=1)],
        "broken": start,
        "huge": [*start, member("y", size=5000)],
    }[bad]
    data = tar(*members)
    with pytest.raises(ArchiveError):
        extract(data[:2048] if bad == "broken" else data, tmp_path / "t", Limits(size=8000))
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(tmp_path / "outside") == []


def test_the_control_python_writes_over_the_link(tmp_path: Path) -> None:
    """The same archive without our rules does reach outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "t").mkdir()
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar(member("a", tarfile.SYMTYPE, linkname="../outside"), member("a/evil", size=1)))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "t", filter="fully_trusted")
    assert (tmp_path / "outside/evil").exists()


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(ConflictError, match="is there"):
        extract(tar(directory("d")), tmp_path / "t")
    (tmp_path / "late").mkdir()

    def late() -> None:
        (tmp_path / "u").symlink_to("late")

    with pytest.raises(ConflictError, match="is there"):
        extract(tar(directory("d")), tmp_path / "u", before_the_end=late)
    assert (tmp_path / "u").is_symlink()
    assert list((tmp_path / "late").iterdir()) == []
