"""What is known of a connection and of each exchange on it, while it goes.

Refuses nothing; both are filled by those who decide and carry, and read by those who record.

    place = Place("a.example", 443, source, target, program)
    story = Story("e-1", time.monotonic(), event)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from capsule.egress.budget import Reservation
from capsule.egress.frames import Flow, Host
from capsule.egress.hello import Hello
from capsule.egress.mcp_call import McpCall
from capsule.egress.model.call import ModelCall
from capsule.egress.returning import Returning
from capsule.egress.verdict import Verdict
from capsule.egress.websocket import Frames
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
        hello: of TLS; None without.
        via: `host:port` of the connection that a CONNECT came on; empty for a direct one.
        messages: those of MCP are told and decided here; else whoever made the connection has done so.
    """

    name: str
    port: int
    source: tuple[str, int]
    target: tuple[str, int]
    program: asyncio.Future[Flow]
    hello: Hello | None = None
    via: str = ""
    messages: bool = True

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
        unreached: there never was a connection that it could have gone out on.
        kinds: what else it is, of that what the rules are still to be asked about; None: that is not known yet.
        taken: of the budget.
        sent: bytes of the request's body that went out.
        received: bytes of the answer's body.
        returning: the answer's body is collected and changed when it is whole.
        redacted: values of secrets that were taken out of the answer's headers.
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
    unreached: bool = False
    done: bool = False
    sent: int = 0
    received: int = 0
    first_byte: float | None = None
    address: str | None = None
    model: ModelCall | None = None
    kinds: list[dict[str, Any]] | None = None
    mcp: McpCall | None = None
    frames: Frames | None = None
    taken: Reservation | None = None
    returning: Returning | None = None
    redacted: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
