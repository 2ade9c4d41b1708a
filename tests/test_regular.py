from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsule.regular import NotRegularError, read_regular


def test_a_file_is_read_as_far_as_it_may_be_long(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(file)
    assert read_regular(file, most=5) == read_regular(tmp_path / "link", most=9) == b"12345"
    assert read_regular(file, most=3) == b"1234"


def test_what_is_no_file_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = os.listdir("/proc/self/fd")
    for place in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(NotRegularError) as caught:
            read_regular(place, most=9)
        assert caught.value.strerror == "it is no regular file"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", most=9)
    assert os.listdir("/proc/self/fd") == before
