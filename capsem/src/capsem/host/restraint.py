"""What a process takes from itself before it does anything: capabilities, new privileges, system calls.

What it declares (`capsem.process.Confinement`) is what it is left with, whoever started it, and what it starts is left
with no more. Refuses to go on where the kernel refuses that. An ordinary user cannot shorten the bounding set, which
gives nothing to who may gain no privileges.

    restrain(PROCESS.confinement)        # first of all, while there is one thread
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

from capsem.errors import ServiceError
from capsem.process import Confinement
from capsem.vm.syscall_filter import program

_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 24, 38, 47
_FILTER, _CLEAR_ALL, _CAPABILITIES_3 = 2, 4, 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}.get(platform.machine(), -1)
NUMBERS = {"CAP_SETPCAP": 8, "CAP_SYS_ADMIN": 21, "CAP_SETFCAP": 31}
# What keeps user namespaces from who has no capability: the file, and what it says then.
FORBIDS = (
    (Path("/proc/sys/kernel/unprivileged_userns_clone"), "0"),
    (Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"), "1"),
)
_libc = ctypes.CDLL(None, use_errno=True)


def restrain(confinement: Confinement) -> None:
    """Take everything from this process that its confinement does not leave it.

    Raises:
        ServiceError: the kernel refuses.
    """
    keeps = _mask(confinement.root_keeps) if os.geteuid() == 0 else 0
    if keeps and forbidden():
        # As root, a sandbox can be made here only with this one; without, no machine would start.
        keeps |= _mask(("CAP_SYS_ADMIN",))
    _shorten(keeps)
    _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    permitted = _permitted() & keeps
    _set(permitted)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _filter(confinement.refuses)


def forbidden() -> bool:
    """Whether this host lets nobody without a capability make a user namespace."""
    return any(path.exists() and path.read_text().strip() == text for path, text in FORBIDS)


def _mask(names: tuple[str, ...]) -> int:
    return sum(1 << NUMBERS[name] for name in names)


def _shorten(keeps: int) -> None:
    """What of the bounding set is not kept goes, where this process may do that."""
    if not _permitted() & _mask(("CAP_SETPCAP",)):
        return
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in range(last + 1):
        if not keeps >> number & 1:
            _prctl(_PR_CAPBSET_DROP, number)


def _permitted() -> int:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("CapPrm"))
    return int(line.split()[1], 16)


def _set(permitted: int) -> None:
    """What is kept is in effect: of two such processes the one may look into the other only then (ptrace(2))."""
    head = struct.pack("=Ii", _CAPABILITIES_3, 0)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    sets = struct.pack("=6I", low, low, 0, high, high, 0)
    _check(_libc.syscall(_CAPSET, ctypes.c_char_p(head), ctypes.c_char_p(sets)))


def _filter(refused: tuple[str, ...]) -> None:
    code = program(refused, platform.machine())
    held = ctypes.create_string_buffer(code, len(code))
    asked = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held)))
    _prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(asked))


def _prctl(what: int, first: int, second: int = 0) -> None:
    _check(
        _libc.prctl(
            ctypes.c_int(what),
            ctypes.c_ulong(first),
            ctypes.c_ulong(second),
            ctypes.c_ulong(0),
            ctypes.c_ulong(0),
        )
    )


def _check(answer: int) -> None:
    if answer != 0:
        raise ServiceError(
            f"this process could not be confined: {os.strerror(ctypes.get_errno())}",
            next_step="see capsem doctor; nothing runs unconfined",
        )
