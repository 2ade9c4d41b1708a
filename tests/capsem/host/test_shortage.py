"""A full disk is named, with what is free; what failed otherwise is told as it is."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from capsem.host.shortage import MAKE_ROOM, naming, step, why


def failed(number: int, *file: str) -> OSError:
    return OSError(number, os.strerror(number), *file)


def test_a_full_disk_is_named_with_what_is_free_and_needed(tmp_path: Path) -> None:
    error = failed(errno.ENOSPC)
    said = why(error, tmp_path)
    assert re.fullmatch(rf"the disk of {re.escape(str(tmp_path))} is full \(\d+\.\d MB are free\)", said)
    assert ", and up to 21.5 MB have to be)" in why(error, tmp_path, needed=21_500_000)
    assert step(error, otherwise="see capsem logs") == MAKE_ROOM
    assert "is full" in why(error, tmp_path / "gone/already"), "what was to be made is gone again"


def test_a_disk_without_a_free_name_is_not_said_to_have_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = os.statvfs_result((4096, 4096, 1000, 500, 500, 100, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda place: about)
    assert "is full (no files are free)" in why(failed(errno.ENOSPC), tmp_path)


def test_a_quota_is_no_full_disk(tmp_path: Path) -> None:
    error = failed(errno.EDQUOT)
    assert "quota is used up" in why(error, tmp_path)
    assert step(error, otherwise="see capsem logs") == MAKE_ROOM


def test_what_failed_otherwise_is_told_as_it_is(tmp_path: Path) -> None:
    error = failed(errno.EIO, "/srv/file")
    assert why(error, tmp_path) == f"/srv/file: {os.strerror(errno.EIO)}"
    assert step(error, otherwise="see capsem logs") == "see capsem logs"
    assert why(OSError("odd"), tmp_path) == "odd"
    assert why(OSError(), tmp_path) == "OSError"


@pytest.mark.parametrize("named", [(), ("part",)])
def test_what_names_no_file_is_given_one(tmp_path: Path, named: tuple[str, ...]) -> None:
    with pytest.raises(OSError, match="No space") as caught, naming(tmp_path / "file"):
        raise failed(errno.ENOSPC, *named)
    assert caught.value.filename == str(tmp_path / "file")
    with pytest.raises(OSError, match="No space") as caught, naming(tmp_path / "file"):
        raise failed(errno.ENOSPC, "/another")
    assert caught.value.filename == "/another"
