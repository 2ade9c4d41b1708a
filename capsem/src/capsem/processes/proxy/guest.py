"""One machine's session: the egress of `capsule`, with the guest's word for who connects.

Refuses nothing by itself: what a guest says of its programs is recorded as the guest's word, and decides only what the
policy's author lets a program's name decide.

    session = GuestSession(frame, monitor, minter)
    session.made_by(("guest", 7), ("198.18.0.9", 443), opened)
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from capsem.processes.proxy.monitor import MonitorLink
from capsem.wire.guest import Open
from capsule.egress.encryption import Minter
from capsule.egress.frames import Flow
from capsule.egress.frames import Session as SessionFrame
from capsule.egress.pool import PoolFullError
from capsule.egress.session import Session
from capsule.egress.story import Place
from capsule.egress.verdict import Verdict
from capsule.rules.deciders import MACHINE

Address = tuple[str, int]


class RefusedError(Exception):
    """A connection of the proxy's own is not made; `verdict` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class GuestSession(Session):
    """The state of one machine's network."""

    # Rules about commands and files are the monitor's; they may stand in one file with others.
    decides = MACHINE

    def __init__(
        self, frame: SessionFrame, monitor: MonitorLink, minter: Minter, *, own: Iterable[str] = ()
    ) -> None:
        super().__init__(frame, None, monitor, minter, _nobody_waits, dialer=monitor)
        self.own = frozenset(name.lower() for name in own)
        self._asking: dict[str, Any] = {}

    def made_by(self, source: Address, target: Address, opened: Open) -> None:
        """Who makes the connection that comes next."""
        self.flows.add(
            Flow(
                source=f"{source[0]}:{source[1]}", target=f"{target[0]}:{target[1]}",
                pid=opened.pid or 0, program=opened.program or "", argv=(),
            )
        )  # fmt: skip

    def reach(self, opened: Open, number: int, host: str, port: int) -> socket.socket:
        """A connection that the proxy makes for a program, carried as that program's own would be.

        What is said in it of MCP is told and decided by whoever says it (`Place.messages`), once.

        Args:
            opened: of the program.
            number: no other connection of the proxy's own has it.
            host: a name or an IPv4 address, in its one spelling.
            port: of it.

        Raises:
            RefusedError: the program would not get there; that is recorded.
        """
        literal = host.replace(".", "").isdigit()
        verdict = Verdict("allow", "default", "") if literal else self.judge.name(host, "A", "tcp")
        if verdict.allowed:
            verdict, _ = self.judge.connection(host, port)
        source, target = ("mcp", number), (host, port)
        if verdict.allowed and not literal:
            try:
                target = (self.inside(host), port)
            except PoolFullError as error:
                verdict = Verdict("block", "name", str(error))
        self.made_by(source, target, opened)
        if not verdict.allowed:
            self.refused_connection(
                Place(host, port, source, target, self.flows.expect(source, target)), verdict
            )
            raise RefusedError(verdict)
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self.connection(theirs, source, target, messages=False)
        return ours

    def question(self, untrusted_packet: bytes, opened: Open) -> bytes | None:
        """The answer to a question of a program."""
        self._asking = reported(opened.program, opened.pid)
        try:
            return self.answer(untrusted_packet, "udp", ("guest", 0))
        finally:
            self._asking = {}

    def _record_name(self, section: dict[str, Any]) -> None:
        verdict = self._decide_name(section["name"], section["qtype"], section["transport"])
        fields = {**self._asking, "dns": section, "decision": verdict.entry()}
        self.recorder.write("egress.dns", fields)

    def _program(self, place: Place) -> dict[str, Any]:
        future = place.program
        if not future.done() or future.cancelled():
            return {}
        return reported(future.result().program, future.result().pid)


PROGRAM = 1024
"""Characters of a program's path that are recorded, as of one that the guest reports running."""


def reported(program: str | None, pid: int | None) -> dict[str, Any]:
    """A program as an entry has it; nothing where the guest does not say."""
    if not program:
        return {}
    shown = program if len(program) <= PROGRAM else program[:PROGRAM] + "…"
    return {"program": {"path": shown, "pid": pid or 0, "name": shown.rpartition("/")[2]}}


def _nobody_waits() -> None:
    """Asks are told to the monitor as they come."""
