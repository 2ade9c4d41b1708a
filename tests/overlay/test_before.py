from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.overlay.before import Before
from capsule.overlay.change import ABSENT, Entry
from capsule.overlay.manifest import OverlayError

RECORD = b"d 2 100 - d\0f 3 100 - d/a b\0l 4 100 - d/\xff\0f 5 100 640 laid\0"
FILE = Entry("file", ctime=100, inode=3)


@pytest.mark.parametrize(
    ("path", "lower", "said"),
    [
        ("d/a b", FILE, None),
        ("d/a b", ABSENT, "removed"),
        ("d/a b", Entry("file", ctime=101, inode=3), "changed"),
        ("d/a b", Entry("file", ctime=99, inode=3), "changed"),
        ("d/a b", Entry("file", ctime=100, inode=9), "replaced"),
        ("d/a b", Entry("link", ctime=100, inode=3), "replaced"),
        ("d/\udcff", Entry("link", ctime=100, inode=4), None),
        ("d", Entry("directory", ctime=999, inode=2), None),
        ("d", Entry("directory", ctime=100, inode=3), "replaced"),
        ("new", ABSENT, None),
        ("new", FILE, "appeared"),
    ],
)
def test_what_the_host_did_since(path: str, lower: Entry, said: str | None) -> None:
    conflict = Before(RECORD).conflict(path, lower)
    assert conflict is None if said is None else said in str(conflict)


def test_what_was_laid_and_what_is_missing() -> None:
    before = Before(RECORD)
    assert before.laid("laid") == 0o640
    assert before.laid("d") is before.laid("new") is None
    assert before.missing("d", ["\udcff", "new"]) == "a b"
    assert before.missing("d", ["\udcff", "a b"]) is None
    assert before.missing("", ["d"]) == "laid"
    assert before.missing("new", []) is None
    assert Before(b"").missing("", ["a"]) is None


@pytest.mark.parametrize(
    "data", [b"x", b"d 2 100 - d", b"\0", b"x 2 100 - d\0", b"d 2 100 9 d\0", b"d a 1 - d\0"]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(OverlayError):
        Before(data)


@given(st.binary(max_size=60))
def test_hostile_bytes_are_records_or_refused(data: bytes) -> None:
    with contextlib.suppress(OverlayError):
        Before(data)
