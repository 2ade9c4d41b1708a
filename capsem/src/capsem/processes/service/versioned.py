"""Every answer says which version the service is; a client that would be misunderstood is answered nothing else.

Refuses, before anything is done, a client that is newer, which is to start a service of its own version, and one that
speaks another wire. Whoever says nothing of itself is served: other programs speak to the service, too.

    app = Versioned(build(registry), OURS)
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capsem.errors import VersionError
from capsem.processes.service.faults import answer
from capsem.wire.versions import Fit, Version, judge, told

CODE = 426
_ASKS_THAT = "/version"


class Versioned:
    """An application that tells its version.

    Args:
        app: what answers.
        version: ours.
    """

    def __init__(self, app: ASGIApp, version: Version) -> None:
        self._app = app
        self._version = version
        self._fields = [(name.encode(), text.encode()) for name, text in version.fields.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._fields]}
            await send(message)

        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client = told(fields)
        if client is None or scope["path"] == _ASKS_THAT or judge(client, self._version) is Fit.GOES:
            await self._app(scope, receive, signed)
            return
        error = VersionError(
            f"the service is {self._version}, the client is {client}",
            next_step="use the newer capsem for both; machines outlive a service",
        )
        await answer(error, CODE, close=True)(scope, receive, signed)
