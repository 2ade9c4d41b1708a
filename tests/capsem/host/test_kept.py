from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import kept, memory

SIZE = 8 << 20


def written(place: Path, state: bytes) -> int:
    ram = memory.blank("t", SIZE)
    os.pwrite(ram, b"first", 0)
    os.pwrite(ram, b"last", SIZE - 4)
    file = os.open(place, os.O_RDWR | os.O_CREAT)
    kept.write(file, state, ram)
    os.close(ram)
    return file


@pytest.mark.parametrize("state", [b"s", os.urandom(300_000), os.urandom((1 << 20) - 32)], ids=len)
def test_what_was_kept_comes_back_and_takes_little_room(tmp_path: Path, state: bytes) -> None:
    file = written(tmp_path / "suspended", state)
    assert os.fstat(file).st_blocks * 512 < len(state) + (2 << 20)
    found, ram = kept.begin(file, SIZE)
    assert os.pread(ram, 5, 0) == b"\0" * 5, "it is filled while QEMU starts"
    kept.fill(file, ram)
    assert os.pread(found, 1 << 21, 0) == state
    assert memory.sealed(found)
    assert not memory.sealed(ram), "the one machine that has it writes to it"
    assert (os.pread(ram, 5, 0), os.pread(ram, 4, SIZE - 4), os.pread(ram, 4, SIZE // 2)) == (
        b"first",
        b"last",
        b"\0" * 4,
    )
    for one in (file, found, ram):
        os.close(one)


def test_what_is_not_whole_or_of_another_machine_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "suspended", b"state")
    with pytest.raises(MachineError, match="not of this machine"):
        kept.begin(file, SIZE * 2)
    whole = os.fstat(file).st_size
    for size in (0, 5, 40, whole - 1, whole + 1):
        os.ftruncate(file, size)
        with pytest.raises(MachineError, match="not of this version's form"):
            kept.begin(file, SIZE)
    os.ftruncate(file, whole)
    os.pwrite(file, (1 << 62).to_bytes(8, "little"), 16)
    with pytest.raises(MachineError, match="not of this version's form"):
        kept.begin(file, SIZE)
    os.pwrite(file, b"QEVM", 0)
    with pytest.raises(MachineError, match="not of this version"):
        kept.begin(file, SIZE)
    os.close(file)


def test_it_is_kept_in_a_file_of_its_own_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "suspended.new").write_bytes(b"x" * (SIZE * 2))
    ram = memory.blank("t", SIZE)
    os.pwrite(ram, b"first", 0)
    kept.keep(tmp_path / "suspended.new", b"state", ram)
    os.close(ram)
    file = os.open(tmp_path / "suspended.new", os.O_RDONLY)
    found, ram = kept.begin(file, SIZE)
    kept.fill(file, ram)
    assert (os.pread(found, 16, 0), os.pread(ram, 5, 0)) == (b"state", b"first")
    for one in (file, found, ram):
        os.close(one)
    (tmp_path / "link").symlink_to("suspended.new")
    with pytest.raises(OSError, match="symbolic"):
        kept.keep(tmp_path / "link", b"state", 0)
