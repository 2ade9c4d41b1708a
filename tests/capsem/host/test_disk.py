from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import disk


def test_a_blank_disk_is_a_file_system_and_takes_little_place(tmp_path: Path) -> None:
    disk.blank_disk(tmp_path / "disk", 256)
    found = (tmp_path / "disk").stat()
    assert found.st_size == 256 << 20
    assert found.st_blocks * 512 < 16 << 20
    assert found.st_mode & 0o777 == 0o600
    with (tmp_path / "disk").open("rb") as file:
        file.seek(0x438)
        assert file.read(2) == b"\x53\xef", "the magic number of ext4"


def test_without_the_program_the_line_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_WHERE", str(tmp_path))
    with pytest.raises(MachineError) as caught:
        disk.blank_disk(tmp_path / "disk", 64)
    assert "e2fsprogs" in caught.value.next_step


def test_a_copy_is_the_same_and_as_sparse_and_takes_no_other_s_place(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(10 << 20)
        file.write(b"x" * 70_000)
    disk.copy_disk(tmp_path / "disk", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "disk").read_bytes()
    found = (tmp_path / "copy").stat()
    assert found.st_blocks * 512 < 1 << 20
    assert found.st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        disk.copy_disk(tmp_path / "disk", tmp_path / "copy")
    (tmp_path / "link").symlink_to("disk")
    with pytest.raises(OSError, match="symbolic links"):
        disk.copy_disk(tmp_path / "link", tmp_path / "other")
    assert not (tmp_path / "other").exists()
