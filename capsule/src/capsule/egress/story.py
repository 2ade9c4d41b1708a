"""What is known of a connection and of each exchange on it, while it goes.

Refuses nothing; both are filled by those who decide and carry, and read by those who record.

    place = Place("a.example", 443, source, target, program, private=False)
    story = Story("e-1", time.monotonic(), event)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from capsule.egress.budget import Reservation
from capsule.egress.frames import Flow, Host
from capsule.egress.hello import Hello
from capsule.egress.model.call import ModelCall
from capsule.egress.verdict import Verdict
from capsule.rules.rewrite import Edit

ALLOWED = Verdict("allow", "default", "")


@dataclass(slots=True)
class Place:
    """What an accepted connection is for.

    Attributes:
        name: the host, as the resolver or the address said it.
        port: of the original destination.
        source: who connected.
        target: the original destination.
        program: as the supervisor tells; cancelled when it does not in time.
        private: the entry allows private addresses.
        hello: of TLS; None without.
    """

    name: str
    port: int
    source: tuple[str, int]
    target: tuple[str, int]
    program: asyncio.Future[Flow]
    private: bool
    hello: Hello | None = None

    @property
    def usual_port(self) -> bool:
        """Whether the port is its scheme's own."""
        return self.port == (443 if self.hello is not None else 80)


@dataclass(slots=True)
class Story:
    """One request and its answer.

    Attributes:
        event: of `events.md`, as far as it is known.
        verdict: the decision so far.
        entry: the host entry that let it through.
        edits: what the rules change.
        waits: the body is collected, because a decision or an edit needs it.
        pending: the rules are asked again with the body.
        refused: the answer is ours.
        taken: of the budget.
        sent: bytes of the request's body that went out.
        received: bytes of the answer's body.
    """

    id: str
    started: float
    event: dict[str, Any]
    verdict: Verdict = ALLOWED
    entry: Host | None = None
    edits: tuple[Edit, ...] = ()
    waits: bool = False
    pending: bool = False
    refused: bool = False
    done: bool = False
    sent: int = 0
    received: int = 0
    first_byte: float | None = None
    address: str | None = None
    model: ModelCall | None = None
    taken: Reservation | None = None
    notes: dict[str, Any] = field(default_factory=dict)
