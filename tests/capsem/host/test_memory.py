from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import memory


def test_what_is_sealed_cannot_be_changed_by_whoever_holds_it() -> None:
    descriptor = memory.blank("t", 8192)
    os.pwrite(descriptor, b"before", 0)
    assert not memory.sealed(descriptor)
    memory.seal(descriptor)
    assert memory.sealed(descriptor)
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    for attempt in (lambda: os.pwrite(again, b"after", 0), lambda: os.ftruncate(again, 0)):
        with pytest.raises(PermissionError):
            attempt()
    with pytest.raises(PermissionError):
        mmap.mmap(again, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    with mmap.mmap(again, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as private:
        private[:6] = b"clone!"
    assert os.pread(descriptor, 6, 0) == b"before"
    os.close(again)
    os.close(descriptor)


def test_what_somebody_may_still_write_is_not_sealed() -> None:
    descriptor = memory.blank("t", 4096)
    with mmap.mmap(descriptor, 4096), pytest.raises(MachineError, match="sealed"):
        memory.seal(descriptor)
    os.close(descriptor)


def test_two_readers_have_their_own_positions() -> None:
    descriptor = memory.blank("t")
    os.write(descriptor, b"abcdef")
    first, second = memory.reopened(descriptor), memory.reopened(descriptor)
    assert (os.read(first, 3), os.read(second, 6), os.read(first, 3)) == (b"abc", b"abcdef", b"def")
    for one in (first, second, descriptor):
        os.close(one)


def test_a_file_and_back_and_holes_stay_holes(tmp_path: Path) -> None:
    size = 64 << 20
    source = memory.blank("t", size)
    os.pwrite(source, b"begin", 0)
    os.pwrite(source, b"middle", size // 2)
    memory.to_file(source, tmp_path / "memory")
    kept = (tmp_path / "memory").stat()
    assert kept.st_size == size
    assert kept.st_blocks * 512 < 1 << 20
    assert kept.st_mode & 0o777 == 0o600
    again = memory.from_file(tmp_path / "memory", "t")
    assert memory.sealed(again)
    assert os.fstat(again).st_size == size
    assert (os.pread(again, 5, 0), os.pread(again, 6, size // 2)) == (b"begin", b"middle")
    assert os.fstat(again).st_blocks * 512 < 1 << 20
    with pytest.raises(FileExistsError):
        memory.to_file(source, tmp_path / "memory")
    os.close(again)
    os.close(source)
