"""Who speaks to the MCP servers of one machine that are reached over HTTP: a few conversations at once.

Refuses more than `AT_ONCE`, and more than a few new ones in a short time, as the monitor does with servers that it
starts; a secret that the policy does not have. The values of secrets are not known here, only what stands for them.

    reaching = Reaching(session, authority_pem)
    sock, close = reaching.begin(server, stream.opened)      # lines, as of a server that was started
    await close()
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import cached_property

from capsem.errors import MachineError
from capsem.host.allowance import Allowance
from capsem.processes.proxy.guest import GuestSession
from capsem.processes.proxy.remote import Remote
from capsem.vm.remote import SECRET, Address, parse_address
from capsem.wire.guest import Open
from capsem.wire.proxy import Server
from capsule.egress.caller import Caller, trusting

AT_ONCE = 8
STARTS, EVERY = 30.0, 2.0
"""Conversations begun at once, and seconds in which one more may be."""


class Reaching:
    """All of one machine.

    Args:
        session: what carries, decides and records their connections.
        authority: of the session, PEM: what its connections show inside.
    """

    def __init__(self, session: GuestSession, authority: str) -> None:
        self._session = session
        self._authority = authority
        self._numbers = itertools.count(1)
        self._talking = 0
        self._starts = Allowance(1 / EVERY, STARTS, time.monotonic())

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return trusting([self._authority, *self._session.authorities])

    def begin(self, server: Server, opened: Open) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        """A conversation: a socket for lines, and how it is ended.

        Args:
            server: with a `url`.
            opened: of the program that speaks.

        Raises:
            MachineError: there are too many, or the policy lacks a secret.
        """
        if self._talking >= AT_ONCE:
            raise MachineError(f"{AT_ONCE} MCP servers are spoken to over HTTP", next_step="end one")
        if not self._starts.take(time.monotonic()):
            raise MachineError(
                "too many MCP servers were spoken to over HTTP in a short time", next_step="wait"
            )
        address = parse_address(server.url)
        fields = {name: SECRET.sub(self._placeholder, value) for name, value in server.headers}
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        remote = Remote(
            self._caller(address, opened), address, fields, theirs, server.transport,
            place=f"MCP server {server.name} ({server.file}:{server.line})",
        )  # fmt: skip
        running = asyncio.get_running_loop().create_task(remote.run())
        self._talking += 1

        async def close() -> None:
            ours.close()
            try:
                await remote.close(running)
            finally:
                self._talking -= 1

        return ours, close

    def _caller(self, address: Address, opened: Open) -> Caller:
        def connect() -> socket.socket:
            return self._session.reach(opened, next(self._numbers), address.host, address.port)

        return Caller(
            address.host, address.port, connect=connect, trust=self._trust if address.secure else None
        )

    def _placeholder(self, match: re.Match[str]) -> str:
        secret = self._session.frame.secrets.get(match[1])
        if secret is None:
            raise MachineError(
                f"the machine's policy has no secret {match[1]}, which a header is to hold",
                next_step="add it to the `secrets` of --policy",
            )
        return secret.placeholder
