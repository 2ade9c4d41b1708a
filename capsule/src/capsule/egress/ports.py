"""What a session needs of the outside: a way to its log and to people, and connections that somebody may open.

Pure. A daemon has both itself (`channel`, `dialer`); a process that may not dial asks another one for them. Refuses
nothing: what is allowed is decided before either is asked.

    Session(frame, None, supervisor, minter, changed, dialer=dials)
"""

from __future__ import annotations

import socket
from typing import Any, Protocol


class Supervisor(Protocol):
    """Who writes the log and knows the person."""

    @property
    def crowded(self) -> bool:
        """Whether `room` would wait."""
        ...

    def send(self, message: Any) -> None:
        """Queues one message."""
        ...

    async def room(self) -> None:
        """Waits while what was sent is not taken."""
        ...


class Dials(Protocol):
    """Who opens connections to the outside."""

    async def dial(self, host: str, port: int, *, private: bool) -> tuple[socket.socket, str]:
        """A connected socket, and the address it is connected to, as `ip:port`.

        Raises:
            AddressError: no address of the name is allowed.
            DialError: there is no connection.
        """
        ...
