"""The system calls there are, and the groups a policy names them by, each with a reason.

`syscalls.tsv` holds the numbers for both architectures (facts of Linux's `asm/unistd_64.h` and
`asm-generic/unistd.h`); `syscall_groups.tsv` puts every one of them into exactly one group. Groups of kind
`never` cannot be granted at all, because with them the rest of a policy would not hold. What this module
refuses: a name in no group or in two.

    groups()["memory"].members        # ('brk', 'madvise', …)
    group_of("mount").kind          # 'never'
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from capsule.policy.model import Condition

# Flags of clone(2) that make namespaces; CLONE_NEWTIME shares bits with the exit signal and is not read by
# clone.
_NEW_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX, _TIOCCONS = 0x5412, 0x541C, 0x541D
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_ADDR_NO_RANDOMIZE = 0x0040000

# Inside a group some calls hold only with conditions; several are alternatives. The kernel cuts many
# arguments to 32 bits, so that `ne` alone would let the same command through with a higher bit set: each
# `ne` stands beside an `le`.
CONDITIONS: Mapping[str, tuple[tuple[Condition, ...], ...]] = {
    "clone": ((Condition(0, "mask", 0, _NEW_NAMESPACES),),),
    "ioctl": (
        (
            Condition(1, "le", 0x7FFFFFFF),
            Condition(1, "ne", _TIOCSTI),
            Condition(1, "ne", _TIOCLINUX),
            Condition(1, "ne", _TIOCCONS),
        ),
        (Condition(1, "mask", 0x80000000, 0x80000000),),
    ),
    "personality": (
        (Condition(0, "eq", 0),),
        (Condition(0, "eq", _ADDR_NO_RANDOMIZE),),
        (Condition(0, "eq", 0xFFFFFFFF),),
    ),
    # Protocol at most 255: multipath TCP is 262 and escapes Landlock's port rules.
    "socket": (
        (Condition(0, "eq", _AF_UNIX),),
        (Condition(0, "eq", _AF_INET), Condition(2, "le", 255)),
        (Condition(0, "eq", _AF_INET6), Condition(2, "le", 255)),
        (Condition(0, "eq", _AF_NETLINK), Condition(2, "eq", 0)),
    ),
    "socketpair": ((Condition(0, "eq", _AF_UNIX),),),
}


@dataclass(frozen=True, slots=True)
class Group:
    """System calls that are granted together.

    Attributes:
        name: what a policy writes.
        kind: `grant` may be granted, `never` may not.
        errno: what a call of a `never` group fails with; ENOSYS where programs know how to go on.
        reason: why it is granted, or why it never is.
        members: names of system calls, sorted.
    """

    name: str
    kind: Literal["grant", "never"]
    errno: str
    reason: str
    members: tuple[str, ...]


@cache
def numbers() -> Mapping[str, tuple[int | None, int | None]]:
    """Name → number on x86_64 and on aarch64, None where it does not exist."""
    table: dict[str, tuple[int | None, int | None]] = {}
    for line in _rows("syscalls.tsv"):
        name, x86_64, aarch64 = line.split("\t")
        table[name] = (None if x86_64 == "-" else int(x86_64), None if aarch64 == "-" else int(aarch64))
    return table


@cache
def groups() -> Mapping[str, Group]:
    """All groups by name.

    Raises:
        ValueError: when the table names a call twice, or one that does not exist.
    """
    found: dict[str, Group] = {}
    seen: set[str] = set()
    for line in _rows("syscall_groups.tsv"):
        name, kind, errno, reason, members = line.split("\t")
        names = tuple(sorted(members.split()))
        if kind not in {"grant", "never"} or seen.intersection(names) or not set(names) <= numbers().keys():
            raise ValueError(f"the group {name} of syscall_groups.tsv is malformed")
        seen.update(names)
        found[name] = Group(name, "never" if kind == "never" else "grant", errno, reason, names)
    return found


def group_of(name: str) -> Group | None:
    """The group a system call is in, None for a name there is not."""
    return next((group for group in groups().values() if name in group.members), None)


def _rows(file: str) -> list[str]:
    # Package data is part of the program, as this module's own text is: nothing of the host is read.
    data = pkgutil.get_data("capsule.sandbox", file)
    if data is None:
        raise FileNotFoundError(f"{file} is missing from this installation of capsule")
    return data.decode().splitlines()[1:]
