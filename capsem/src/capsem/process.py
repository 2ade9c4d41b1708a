"""What a process of Capsem declares about itself: name, trust, peers, powers, and how it is confined.

Each folder below `capsem.processes` has one such declaration in its `__init__`, named `PROCESS`; tests start the
process and compare. Refuses a declaration that grants and refuses the same thing.

    PROCESS = Process(name="capsem-process", trust=Trust.POWER, peers=("capsem-service",), powers=(Power.SPAWN,), …)
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Trust(enum.StrEnum):
    """What a process may be believed."""

    POWER = "holds power and answers a fixed table of questions"
    HOSTILE_INPUT = "parses hostile bytes and holds no power"
    CLIENT = "speaks for this user and holds nothing"


class Power(enum.StrEnum):
    """What a process can do that another cannot."""

    SPAWN = "start programs"
    STATE = "write below CAPSEM_HOME"
    GUEST = "read what a guest sends"
    RECORD = "append to a session's log"


@dataclass(frozen=True, slots=True)
class Confinement:
    """How the kernel holds a process, as seen in its `/proc`.

    Attributes:
        one_user: it never runs as more than the user who started it.
        own_directory_mode: the mode of the directory its sockets are in.
        dies_with: the process whose end is its end, or None.
        root_keeps: capabilities that it keeps as root, for programs that it starts. Of any other user
            it has none. It never gains privileges.
        refuses: groups of Capsule's system calls that fail, in it and in all that it starts; none: its sandbox decides.
    """

    one_user: bool = True
    own_directory_mode: int = 0o700
    dies_with: str | None = None
    root_keeps: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()


STARTS_SANDBOXES = Confinement(
    # The map of a namespace in which root is to be somebody is only written with it (user_namespaces(7)).
    root_keeps=("CAP_SETFCAP",),
    # A sandbox is made with the rest: namespaces, mounts, a filter with a listener.
    refuses=("io-uring", "handles", "keys", "modules", "machine", "obsolete", "rare"),
)
"""Of the service and its monitors: they hold power, and start what has none."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the house.

    Attributes:
        name: the program's name.
        trust: what it may be believed.
        peers: who may speak to it.
        powers: what it can do.
        refuses: what it never does, in words.
        never_loads: modules that never appear in its `sys.modules`.
        confinement: how it is held.
    """

    name: str
    trust: Trust
    peers: tuple[str, ...]
    powers: tuple[Power, ...]
    refuses: str
    never_loads: tuple[str, ...] = ()
    confinement: Confinement = field(default_factory=Confinement)

    def __post_init__(self) -> None:
        if self.trust is not Trust.POWER and Power.SPAWN in self.powers:
            raise ValueError(f"{self.name}: {self.trust} and may start programs")
        if self.name in self.peers:
            raise ValueError(f"{self.name} is its own peer")
