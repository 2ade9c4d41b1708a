from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from capsule.cli.output import lines, save
from capsule.errors import UsageError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    save(tmp_path / "new" / "a", b"one")
    save(tmp_path / "new" / "a", b"two")
    assert (tmp_path / "new" / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path / "new") == ["a"]


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    save(pipe, b"said")
    assert os.read(reader, 10) == b"said"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    for refused in (tmp_path, Path("/proc/no/such")):
        with pytest.raises(UsageError, match=f"{refused} cannot be written: "):
            save(refused, b"x")
        with pytest.raises(UsageError, match="cannot be written: "), lines(refused):
            pass
    with pytest.raises(BrokenPipeError), lines(tmp_path / "a"):
        raise BrokenPipeError
