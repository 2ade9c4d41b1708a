"""Another process's memory, read as QEMU's is: that of an interpreter which maps a file privately."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from capsem.errors import MachineError
from capsem.host import memory, ram

SIZE = 64 << 20
PROGRAM = """
import mmap, os, sys
file = int(sys.argv[1])
room = mmap.mmap(file, 0, getattr(mmap, sys.argv[2]), mmap.PROT_READ | mmap.PROT_WRITE)
assert room[4096:4100] == b"base"
room[3 * 4096 + 5 : 3 * 4096 + 9] = b"mine"
for place in range(1 << 20, 32 << 20, 8192):
    room[place] = 7
room[-1] = 9
print("there", flush=True)
sys.stdin.read()
"""


HIDDEN = """
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody but root looks into it, as into a supervisor
subprocess.run(sys.argv[1:], close_fds=False)
"""


@contextmanager
def mapping(base: int, how: str = "MAP_PRIVATE", *before: str) -> Iterator[int]:
    line = [*before, sys.executable, "-c", PROGRAM, str(base), how]
    with subprocess.Popen(line, pass_fds=[base], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def base() -> Iterator[int]:
    descriptor = memory.blank("t", SIZE)
    os.pwrite(descriptor, b"base", 4096)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    "before",
    [(), ("/bin/sh", "-c", 'trap "" TERM; "$@"; exit 3', "sh"), (sys.executable, "-c", HIDDEN)],
    ids=["itself", "below", "below what hides itself"],
)
def test_what_was_written_is_copied_and_nothing_else(base: int, before: tuple[str, ...]) -> None:
    target = memory.blank("t", SIZE)
    memory.copy_written(base, target)
    with mapping(base, "MAP_PRIVATE", *before) as pid:
        copied = ram.copy_written(pid, base, target)
    pages = len(range(1 << 20, 32 << 20, 8192)) + 2
    assert copied == pages * ram.PAGE
    assert os.pread(target, 4, 4096) == b"base"
    assert os.pread(target, 4, 3 * 4096 + 5) == b"mine"
    assert os.pread(target, 1, (1 << 20) + 8192) == b"\7"
    assert os.pread(target, 1, (1 << 20) + 4096) == b"\0"
    assert os.pread(target, 1, SIZE - 1) == b"\11"
    memory.seal(target)
    assert os.pread(base, 4, 3 * 4096 + 5) == b"\0" * 4, "the file is as it was"
    os.close(target)


def test_who_does_not_map_the_file_privately_is_not_read(base: int) -> None:
    target, other = memory.blank("t", SIZE), memory.blank("t", SIZE)
    with mapping(base, "MAP_SHARED") as pid, pytest.raises(MachineError, match="no QEMU"):
        ram.copy_written(pid, base, target)
    os.pwrite(base, b"\0" * 4096, 3 * 4096)
    with mapping(base) as pid, pytest.raises(MachineError, match="no QEMU"):
        ram.copy_written(pid, other, target)
    with pytest.raises(MachineError, match="no QEMU"):
        ram.copy_written(pid, base, target)
    for one in (target, other):
        os.close(one)


def test_what_ends_meanwhile_is_no_copy(base: int, monkeypatch: pytest.MonkeyPatch) -> None:
    target = memory.blank("t", SIZE)
    found = ram.mapped
    with mapping(base) as pid:

        def mapped(one: int, file: int) -> list[tuple[int, int, int]]:
            stretches = found(one, file)
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return stretches

        monkeypatch.setattr(ram, "mapped", mapped)
        with pytest.raises(MachineError):
            ram.copy_written(pid, base, target)
    os.close(target)
