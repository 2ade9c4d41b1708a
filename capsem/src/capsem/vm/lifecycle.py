"""What may happen to a machine, and when: a pure machine of states, events and the acts that follow.

The monitor feeds it what happened and does what it answers; nothing else decides about a machine's life. Refuses an
event that has no place in the present state, naming both.

    life = Life()
    life.step(Event.START)             # Act.LAUNCH
    life.step(Event.AGENT_READY)       # Act.ANNOUNCE
    life.state                         # State.RUNNING
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from capsem.errors import ConflictError


class State(enum.StrEnum):
    """Where a machine is in its life."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    STOPPING = "stopping"
    STOPPED = "stopped"
    CRASHED = "crashed"
    FAILED = "failed"
    DELETED = "deleted"


ALIVE = frozenset({State.STARTING, State.RUNNING, State.SUSPENDING, State.STOPPING})
"""A QEMU may be running for it."""
STANDING = frozenset({State.CREATED, State.SUSPENDED, State.STOPPED, State.CRASHED, State.FAILED})
"""None is, and it can be started."""


class Event(enum.StrEnum):
    """What happened, or was asked."""

    START = "start"
    AGENT_READY = "agent ready"
    BOOT_LATE = "boot is late"
    STOP = "stop"
    STOP_LATE = "stop is late"
    SUSPEND = "suspend"
    STATE_KEPT = "its state is kept"
    SUSPEND_FAILED = "its state could not be kept"
    QEMU_ENDED = "QEMU ended"
    QEMU_DIED = "QEMU died"
    DELETE = "delete"


class Act(enum.StrEnum):
    """What the monitor has to do now."""

    NOTHING = "nothing"
    LAUNCH = "launch QEMU"
    ANNOUNCE = "say that it is ready"
    SHUT_DOWN = "ask the agent to shut down"
    SAVE = "keep its memory and devices"
    RUN_ON = "let it run on"
    KILL = "kill QEMU"
    CLEAN = "remove what it left"


@dataclass(slots=True)
class Life:
    """One machine's life.

    Attributes:
        state: where it is.
        tries: how often QEMU was launched since the last start.
        most_tries: how often a boot is tried before the machine has failed.
        kept: whether its state is kept, so that QEMU's end is no loss.
    """

    state: State = State.CREATED
    tries: int = 0
    most_tries: int = 3
    kept: bool = False

    def step(self, event: Event) -> Act:  # noqa: PLR0912 - a table, one row a case
        """Take one event.

        Raises:
            ConflictError: it cannot happen in this state.
        """
        if event is Event.QEMU_DIED and self.state is not State.RUNNING:
            # Only while it ran undisturbed does it matter how QEMU ended.
            event = Event.QEMU_ENDED
        match (self.state, event):
            case (_, Event.START) if self.state in STANDING:
                self.state, self.tries, self.kept = State.STARTING, 1, False
                return Act.LAUNCH
            case (State.STARTING, Event.AGENT_READY):
                self.state = State.RUNNING
                return Act.ANNOUNCE
            case (State.STARTING, Event.BOOT_LATE):
                return Act.KILL
            case (State.STARTING, Event.QEMU_ENDED):
                if self.tries >= self.most_tries:
                    self.state = State.FAILED
                    return Act.NOTHING
                self.tries += 1
                return Act.LAUNCH
            case (State.STARTING | State.SUSPENDING, Event.STOP):
                self.state = State.STOPPING
                return Act.KILL
            case (State.RUNNING, Event.SUSPEND):
                self.state = State.SUSPENDING
                return Act.SAVE
            case (State.SUSPENDING, Event.STATE_KEPT):
                self.kept = True
                return Act.KILL
            case (State.SUSPENDING, Event.SUSPEND_FAILED) if not self.kept:
                self.state = State.RUNNING
                return Act.RUN_ON
            case (State.SUSPENDING, Event.QEMU_ENDED):
                self.state = State.SUSPENDED if self.kept else State.CRASHED
                return Act.NOTHING
            case (State.RUNNING, Event.STOP):
                self.state = State.STOPPING
                return Act.SHUT_DOWN
            case (State.RUNNING, Event.QEMU_ENDED):
                self.state = State.STOPPED
                return Act.NOTHING
            case (State.RUNNING, Event.QEMU_DIED):
                self.state = State.CRASHED
                return Act.NOTHING
            case (State.STOPPING, Event.STOP | Event.AGENT_READY | Event.BOOT_LATE):
                return Act.NOTHING
            case (State.STOPPING, Event.STOP_LATE):
                return Act.KILL
            case (State.STOPPING, Event.QEMU_ENDED):
                self.state = State.STOPPED
                return Act.NOTHING
            case (_, Event.DELETE) if self.state in STANDING:
                self.state = State.DELETED
                return Act.CLEAN
            case (_, Event.STOP | Event.STOP_LATE) if self.state in STANDING:
                return Act.NOTHING
        raise ConflictError(
            f"a machine that is {self.state} cannot take '{event}'",
            next_step="stop it first" if event is Event.DELETE else "see its state with capsem info",
        )

    @property
    def alive(self) -> bool:
        """Whether a QEMU may be running for it."""
        return self.state in ALIVE
