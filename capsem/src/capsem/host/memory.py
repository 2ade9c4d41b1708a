"""Memory that is a file without a name: a guest's, a state's; sealed when it shall never change again.

Refuses to hand out what can still be written once it is sealed (memfd_create(2), F_ADD_SEALS in fcntl(2)).

    memory = blank("memory", 512 << 20)
    seal(memory)
    again = reopened(memory)         # the same bytes, an own position
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from capsem.errors import MachineError

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_CHUNK = 4 << 20


def blank(name: str, size: int = 0) -> int:
    """A descriptor of new memory, all zero, not inherited."""
    descriptor = os.memfd_create(f"capsem-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    return descriptor


def seal(descriptor: int) -> None:
    """From now on nobody can change it, whoever holds it.

    Raises:
        MachineError: somebody still has it mapped for writing.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        raise MachineError(f"memory cannot be sealed: {error}", next_step="report this") from error


def sealed(descriptor: int) -> bool:
    """Whether nobody can change it."""
    return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS


def reopened(descriptor: int) -> int:
    """The same bytes for reading, with a position of its own, at the beginning."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)


def _written(descriptor: int, place: int = 0) -> Iterator[tuple[int, int]]:
    """The stretches that hold data from a place on, as (from, to)."""
    end = os.fstat(descriptor).st_size
    while place < end:
        try:
            start = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        place = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, place


def copy_sparse(source: int, target: int) -> int:
    """Copy what is written; what is not stays a hole. Returns the bytes copied."""
    os.ftruncate(target, os.fstat(source).st_size)
    total, room = 0, bytearray(_CHUNK)
    with memoryview(room) as bytes_of:
        for place, stop in _written(source):
            while place < stop:
                got = os.preadv(source, [bytes_of[: min(_CHUNK, stop - place)]], place)
                if not got:
                    break
                done = os.pwrite(target, bytes_of[:got], place)
                place += done  # noqa: PLW2901 - what is left of the stretch
                total += done
    return total


def copy_written(source: int, target: int, *, start: int = 0, offset: int = 0) -> int:
    """Copy what is written in `source` from `start` on over `target` from `offset` on; returns the bytes.

    `source` is mapped: it must be one that nobody shortens meanwhile.
    """
    size = os.fstat(source).st_size
    if size <= start:
        return 0
    total = 0
    # Mapped, its bytes are copied once; what is a hole is not touched.
    with mmap.mmap(source, size, mmap.MAP_PRIVATE, mmap.PROT_READ) as room, memoryview(room) as bytes_of:
        for place, stop in _written(source, start):
            while place < stop:
                with bytes_of[place : min(place + _CHUNK, stop)] as piece:
                    done = os.pwrite(target, piece, place - start + offset)
                place += done  # noqa: PLW2901 - what is left of the stretch
                total += done
    return total


def from_file(path: Path, name: str) -> int:
    """Sealed memory with a file's bytes."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        target = blank(name)
        copy_sparse(source, target)
    finally:
        os.close(source)
    seal(target)
    return target


def to_file(descriptor: int, path: Path) -> None:
    """A new file, for its owner alone, with the memory's bytes; what is zero takes no place."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        copy_sparse(descriptor, target)
        os.fsync(target)
    finally:
        os.close(target)
