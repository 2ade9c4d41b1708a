"""A seccomp filter that refuses groups of system calls, as the program of classic BPF that the kernel takes.

Pure. The groups and their numbers are Capsule's. Refuses every call of another architecture, the 32 bits of this one
included: a number would mean something else there. What is not refused is allowed, for who starts sandboxes needs what
those need; those have filters of their own over it.

    program(("keys", "modules"), "x86_64")        # bytes, 8 an instruction
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence

from capsule.sandbox.syscalls import groups, numbers

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the table of numbers, and AUDIT_ARCH of linux/audit.h."""
_LOAD, _EQUAL, _LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X32 = 0x40000000


def program(refused: Sequence[str], machine: str) -> bytes:
    """The filter.

    Args:
        refused: names of Capsule's groups.
        machine: as `platform.machine` says it.

    Raises:
        KeyError: there is no such group, or nothing is known of such a machine.
    """
    return b"".join(struct.pack("=HBBI", *one) for one in _instructions(refused, machine))


def _instructions(refused: Sequence[str], machine: str) -> Iterator[tuple[int, int, int, int]]:
    """Operation, how many to skip where it is so, and where it is not, and a number."""
    column, architecture = _MACHINES[machine]
    yield _LOAD, 0, 0, _ARCHITECTURE
    yield _EQUAL, 1, 0, architecture
    yield _RETURN, 0, 0, _ERRNO | errno.EPERM
    yield _LOAD, 0, 0, _NUMBER
    if machine == "x86_64":
        yield _LEAST, 0, 1, _X32
        yield _RETURN, 0, 0, _ERRNO | errno.ENOSYS
    for name in refused:
        group = groups()[name]
        for member in group.members:
            number = numbers()[member][column]
            if number is not None:
                yield _EQUAL, 0, 1, number
                yield _RETURN, 0, 0, _ERRNO | getattr(errno, group.errno)
    yield _RETURN, 0, 0, _ALLOW
