"""The memory of a machine that stands still, as its QEMU has it: what the guest wrote over the file it started from.

QEMU maps that file privately, so what was written is QEMU's alone (proc_pid_pagemap(5) says which pages); it is read
with process_vm_readv(2). Refuses a process that does not map the file, and what was read when the process ended
meanwhile: its number may be another's by then.

    written = copy_written(qemu.pid, base, target)       # bytes; target then has the guest's memory
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import select
from collections.abc import Iterator
from pathlib import Path

from capsem.errors import MachineError

PAGE = mmap.PAGESIZE
_MOST = 1024
"""Stretches of one process_vm_readv(2), at most IOV_MAX."""
_WRITTEN = re.compile(rb"\x01+")


class _Stretch(ctypes.Structure):
    """`struct iovec` of readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_readv = ctypes.CDLL(None, use_errno=True).process_vm_readv
_readv.restype = ctypes.c_ssize_t
_readv.argtypes = (
    ctypes.c_int, ctypes.POINTER(_Stretch), ctypes.c_ulong, ctypes.POINTER(_Stretch), ctypes.c_ulong, ctypes.c_ulong,
)  # fmt: skip


def _alone() -> bytes:
    """For the top byte of a page's entry: 1 where the page is in memory or swapped, and not the file's."""
    present, swapped, of_file = 0x80, 0x40, 0x20
    return bytes(
        int(bool(top & swapped) or (bool(top & present) and not top & of_file)) for top in range(256)
    )


_ALONE = _alone()


def descendants(pid: int) -> Iterator[int]:
    """A process and those it started, and so on, as far as they are there."""
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())


def mapped(pid: int, file: int) -> list[tuple[int, int, int]]:
    """Where a process maps a file privately: (address, offset in the file, bytes)."""
    found = os.fstat(file)
    where = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x} {found.st_ino}"
    stretches = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode, offset, device, inode = line.split(None, 5)[:5]
        if f"{device} {inode}" == where and mode[3] == "p":
            begin, end = (int(text, 16) for text in span.split("-"))
            stretches.append((begin, int(offset, 16), end - begin))
    return stretches


def _written(pid: int, address: int, size: int) -> Iterator[tuple[int, int]]:
    """What of a stretch is the process's alone: (bytes from its beginning, bytes)."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as file:
        flags = bytearray()
        while len(flags) < size // PAGE:
            entries = os.pread(
                file.fileno(),
                min(1 << 20, (size // PAGE - len(flags)) * 8),
                (address // PAGE + len(flags)) * 8,
            )
            if not entries:
                break
            flags += entries[7::8].translate(_ALONE)
    for match in _WRITTEN.finditer(flags):
        yield match.start() * PAGE, (match.end() - match.start()) * PAGE


def copy_written(pid: int, base: int, target: int) -> int:
    """Put what the guest wrote into `target`, where it is in memory; returns the bytes.

    Args:
        pid: QEMU, or what started it.
        base: the file that QEMU maps as the guest's memory.
        target: a descriptor of the same size, which has what `base` has.

    Raises:
        MachineError: there is no such QEMU, it may not be read, or it ended meanwhile.
    """
    size = os.fstat(base).st_size
    refused: PermissionError | None = None
    for one in descendants(pid):
        try:
            watched = os.pidfd_open(one)
        except OSError:
            continue
        try:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if stretches := mapped(one, base):
                    copied = _copied(one, stretches, target, size)
                    ended = select.poll()
                    ended.register(watched, select.POLLIN)
                    if ended.poll(0):
                        raise MachineError(
                            "QEMU ended while its memory was copied", next_step="see capsem logs"
                        )
                    return copied
        except PermissionError as error:
            # What stands between, the supervisor of its sandbox, lets nobody look: it may be one further down.
            refused = error
        finally:
            os.close(watched)
    if refused is not None:
        raise MachineError(
            f"QEMU's memory may not be read: {refused}",
            next_step="see kernel.yama.ptrace_scope in sysctl(8)",
        ) from refused
    raise MachineError("no QEMU has this machine's memory", next_step="see capsem logs")


def _copied(pid: int, stretches: list[tuple[int, int, int]], target: int, size: int) -> int:
    total = 0
    with mmap.mmap(target, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as room:
        first = ctypes.c_char.from_buffer(room)
        try:
            ours = ctypes.addressof(first)
            pieces = [
                (address + place, ours + offset + place, length)
                for address, offset, whole in stretches
                for place, length in _written(pid, address, min(whole, size - offset))
            ]
            for start in range(0, len(pieces), _MOST):
                total += _read(pid, pieces[start : start + _MOST])
        finally:
            del first
    return total


def _read(pid: int, pieces: list[tuple[int, int, int]]) -> int:
    """One process_vm_readv(2), and again for what one leaves."""
    done = 0
    while pieces:
        theirs = (_Stretch * len(pieces))(*(_Stretch(address, length) for address, _, length in pieces))
        ours = (_Stretch * len(pieces))(*(_Stretch(address, length) for _, address, length in pieces))
        got = _readv(pid, ours, len(pieces), theirs, len(pieces), 0)
        if got <= 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        done += got
        left = []
        for address, place, length in pieces:
            taken = min(got, length)
            got -= taken
            if taken < length:
                left.append((address + taken, place + taken, length - taken))
        pieces = left
    return done
