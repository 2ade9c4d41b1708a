"""What is kept of a machine that is suspended: one file, devices and memory (docs/formats/machine-monitor.md).

Refuses a file that is not of this form or does not hold what it says, before anything is made of it.

    write(descriptor, state, memory)              # of a machine that stands still
    state, memory = begin(descriptor, 512 << 20)  # sealed state; memory to be written by one machine
    fill(descriptor, memory)
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from capsem.errors import MachineError
from capsem.host import memory as memories

_HEAD = struct.Struct("<16sQQ")
_MARK = b"capsem kept v1\n\0"
_STATE_LIMIT = 64 << 20
_BLOCK = 1 << 20


def _beginning_of_memory(state: int) -> int:
    return -(-(_HEAD.size + state) // _BLOCK) * _BLOCK


def write(target: int, state: bytes, memory: int) -> None:
    """Write the file; what is zero in memory takes no place.

    Args:
        target: an empty file.
        state: of the devices.
        memory: a descriptor of the guest's memory.
    """
    size = os.fstat(memory).st_size
    head = _HEAD.pack(_MARK, len(state), size) + state
    place = 0
    while place < len(head):
        place += os.pwrite(target, head[place:], place)
    begin = _beginning_of_memory(len(state))
    os.ftruncate(target, begin + size)
    memories.copy_written(memory, target, offset=begin)


def keep(path: Path, state: bytes, memory: int) -> None:
    """The same into a new file of that name; returns when it is on the disk."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        write(file, state, memory)
        os.fsync(file)
    finally:
        os.close(file)


def begin(source: int, size: int) -> tuple[int, int]:
    """The devices' state, sealed, and memory that is its reader's own and still to be filled, as descriptors.

    Args:
        source: the file.
        size: bytes of memory that the machine has.

    Raises:
        MachineError: it is no such file, or of another machine.
    """
    length = _length(source, size)
    state = memories.blank("state")
    memory = memories.blank("memory", size)
    try:
        place = 0
        while place < length and (data := os.pread(source, length - place, _HEAD.size + place)):
            place += os.write(state, data)
        if place != length:
            raise MachineError("what was kept of the machine is cut off", next_step="capsem stop --force")
        memories.seal(state)
    except BaseException:
        os.close(state)
        os.close(memory)
        raise
    return state, memory


def fill(source: int, memory: int) -> None:
    """Put what was kept into the memory.

    Raises:
        MachineError: it is no such file, or of another machine.
    """
    length = _length(source, os.fstat(memory).st_size)
    memories.copy_written(source, memory, start=_beginning_of_memory(length))


def _length(source: int, size: int) -> int:
    head = os.pread(source, _HEAD.size, 0)
    mark, length, held = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
    whole = _beginning_of_memory(length) + size
    if mark != _MARK or length > _STATE_LIMIT or held != size or os.fstat(source).st_size != whole:
        raise MachineError(
            "what was kept of the machine is not of this version's form, or not of this machine",
            next_step="capsem stop --force forgets its memory and keeps its disk",
        )
    return int(length)
