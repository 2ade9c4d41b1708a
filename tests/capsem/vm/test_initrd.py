from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from capsem.errors import ImageError
from capsem.vm.initrd import Entry, archive

ENTRIES = [
    Entry("init", 0o100555, b"\x7fELF program"),
    Entry("modules", 0o040755),
    Entry("modules/order", 0o100444, b"a.ko\n"),
    Entry("link", 0o120777, b"init"),
]


def test_the_order_in_which_entries_are_given_does_not_matter() -> None:
    assert archive(ENTRIES) == archive(ENTRIES[::-1])
    assert len(archive(ENTRIES)) % 512 == 0


def test_the_first_record_is_as_the_format_says() -> None:
    data = archive([Entry("init", 0o100555, b"abc")])
    assert data[:6] == b"070701"
    fields = [int(data[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
    assert fields == [1, 0o100555, 0, 0, 1, 0, 3, 0, 0, 0, 0, 5, 0]
    assert data[110:115] == b"init\0"
    assert data[116:119] == b"abc"
    assert b"TRAILER!!!" in data


@pytest.mark.needs("cpio")
def test_cpio_reads_it_back(tmp_path: Path) -> None:
    subprocess.run(["cpio", "-id", "--quiet"], input=archive(ENTRIES), cwd=tmp_path, check=True)
    assert (tmp_path / "init").read_bytes() == b"\x7fELF program"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "modules/order").read_bytes() == b"a.ko\n"
    assert (tmp_path / "link").readlink() == Path("init")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([Entry("/init", 0o100555)], "no name in an archive"),
        ([Entry("a/../b", 0o100555)], "no name in an archive"),
        ([Entry("a", 0o100555), Entry("a", 0o100555)], "twice"),
        ([Entry("a/b", 0o100555)], "in no directory"),
        ([Entry("a", 0o100555), Entry("a/b", 0o100555)], "in no directory"),
        ([Entry("a", 0o040755, b"x")], "is no file"),
        ([Entry("TRAILER!!!", 0o100555)], "twice"),
    ],
)
def test_what_is_refused(entries: list[Entry], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        archive(entries)
