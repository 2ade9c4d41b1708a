"""The connections of a machine: decided here by name, port and address, recorded, then opened.

The proxy that asks has no say in it. Refuses what no host entry of the policy lists, unless a person has answered an
ask about that host with yes, and an address that is not public where the entry does not say `private: true`.

    dialling = Dialling(plan, evidence)
    sock, address = await dialling.open("example.com", 443)
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from capsem.errors import CapsemError
from capsule.egress.dialer import AddressError, Dialer, DialError, upstreams
from capsule.egress.frames import Egress
from capsule.policy.grants import Grants

AT_ONCE = 64
"""Connections that are being opened."""
AGREED = 1024
"""Hosts that a person may have said yes to."""


class NotDialledError(CapsemError):
    """There is no connection; `forbidden` when its address is not allowed."""

    def __init__(self, message: str, *, forbidden: bool) -> None:
        super().__init__(message, next_step="see the machine's log: capsule log")
        self.forbidden = forbidden


class Dialling:
    """Opens connections for one machine."""

    def __init__(self, plan: Egress, record: Callable[[str, dict[str, Any]], Awaitable[None]]) -> None:
        self._grants: Grants[Any, Any] = Grants(plan)
        self._dialer = Dialer(upstreams=upstreams(plan), proxy=plan.proxy)
        self._record = record
        self._agreed: set[tuple[str, int]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    def agree(self, host: str, port: int) -> None:
        """A person said yes to a request to this host, which no entry lists."""
        if len(self._agreed) < AGREED:
            self._agreed.add((host, port))

    async def open(
        self, untrusted_host: str, port: int, *, untrusted_private: bool
    ) -> tuple[socket.socket, str]:
        """A connected socket and its address.

        Args:
            untrusted_host: as the proxy says.
            port: of it.
            untrusted_private: whether the entry that granted it is `private`, as the proxy says, which saw the request;
                it is never more than some entry of that host and port says.

        Raises:
            NotDialledError: it is refused, or there is no connection.
            MachineError: it cannot be recorded, so it is not opened.
        """
        entries = self._grants.at(untrusted_host, port)
        agreed = (untrusted_host, port) in self._agreed
        dial = {"host": untrusted_host, "port": port}
        if not entries and not agreed:
            reason = f"no host entry lists {untrusted_host} with port {port}"
            await self._record("machine.dial", {"dial": dial, "decision": _blocked(reason)})
            raise NotDialledError(reason, forbidden=True)
        decision = {"action": "allow", "by": "grant" if entries else "ask"}
        await self._record("machine.dial", {"dial": dial, "decision": decision})
        private = untrusted_private and any(entry.private for entry in entries)
        try:
            async with self._room:
                return await self._dialer.dial(untrusted_host, port, private=private)
        except AddressError as error:
            await self._record("machine.dial", {"dial": dial, "decision": _blocked(str(error), by="address")})
            raise NotDialledError(str(error), forbidden=True) from None
        except DialError as error:
            raise NotDialledError(str(error), forbidden=False) from None


def _blocked(reason: str, *, by: str = "grant") -> dict[str, str]:
    return {"action": "block", "by": by, "reason": reason}
