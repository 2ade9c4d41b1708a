"""HTTP connections of this user only: who connects is looked at before a byte is read.

Refuses a peer of another user by hanging up (SO_PEERCRED in unix(7)); root is let in.

    uvicorn.Config(app, http=OwnPeersOnly, …)
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from capsem.host.peer import is_ours


class OwnPeersOnly(H11Protocol):
    """uvicorn's protocol behind a look at the peer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Hang up on strangers."""
        if not is_ours(transport.get_extra_info("socket")):
            transport.abort()
            return
        super().connection_made(transport)
