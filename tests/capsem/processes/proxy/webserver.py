"""A server of MCP over HTTPS at the far end of what a proxy has dialled, played by the test.

async with Web(answer) as web:                    # async def answer(asked: Asked) -> None: await asked.json({…})
    async with web.spoken(rules=…) as (stand, program):
        await program.say(call(1, "read"))
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import h11

from capsem.vm.network import TextFile
from capsem.wire import proxy
from tests.capsem.processes.proxy.speaking import Program, spoken
from tests.capsem.processes.proxy.standing import Standing, host
from tests.egress.certificates import make

HOST = "mcp.example"
URL = f"https://{HOST}/mcp"
PLACEHOLDER, VALUE = "capsule-secret-forge-" + "a" * 32, "token-of-the-forge-1234567890"
SECRET = {"name": "forge", "to": [HOST], "as": "header", "field": "authorization", "user": None, "env": None}
_ROOT = make("mcp root")
_LEAF = make("server", _ROOT, names=(HOST, "*.other.example"))


class Asked:
    """One request, and ways to answer it."""

    def __init__(
        self, writer: asyncio.StreamWriter, state: h11.Connection, head: h11.Request, body: bytes
    ) -> None:
        self._writer, self._state = writer, state
        self.method, self.target = head.method.decode(), head.target.decode()
        self.headers = {name.decode().lower(): value.decode() for name, value in head.headers}
        self.body = body

    @property
    def message(self) -> Any:
        return json.loads(self.body)

    async def head(self, status: int, **headers: str) -> None:
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self._send(h11.Response(status_code=status, headers=fields))

    async def write(self, data: bytes) -> None:
        self._send(h11.Data(data))
        await self._writer.drain()

    async def end(self) -> None:
        self._send(h11.EndOfMessage())

    async def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        await self.head(status, content_length=str(len(body)), **headers)
        await self.write(body)
        await self.end()

    async def json(self, message: object, status: int = 200, **headers: str) -> None:
        await self.answer(status, json.dumps(message).encode(), content_type="application/json", **headers)

    async def result(self, result: object, **headers: str) -> None:
        await self.json({"jsonrpc": "2.0", "id": self.message["id"], "result": result}, 200, **headers)

    async def events(self, **headers: str) -> None:
        await self.head(200, content_type="text/event-stream", transfer_encoding="chunked", **headers)

    async def event(self, message: object, identity: str = "") -> None:
        named = f"id: {identity}\n" if identity else ""
        data = message if isinstance(message, str) else json.dumps(message)
        await self.write(f"{named}data: {data}\n\n".encode())

    def drop(self) -> None:
        self._writer.transport.abort()

    def _send(self, event: Any) -> None:
        self._writer.write(self._state.send(event) or b"")


Answer = Callable[[Asked], Awaitable[None]]


class Web:
    """What listens behind every connection that is dialled; `asked` has all requests."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[Asked] = []
        self.connections = 0
        self.faults: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._socks: list[socket.socket] = []
        self._directory = TemporaryDirectory()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*_LEAF.write(Path(self._directory.name), "leaf"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)
        for sock in self._socks:
            sock.close()  # of a connection that nobody came to serve
        self._directory.cleanup()
        assert not self.faults, self.faults

    def said(self, method: str = "POST") -> list[Any]:
        """The messages that came, or the requests of another method."""
        found = [one for one in self.asked if one.method == method]
        return [one.message for one in found] if method == "POST" else found

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for what is seen here."""
        while not holds():
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def spoken(
        self, *, rules: str = "", name: str = "forge", entry: dict[str, Any] | None = None, server: Any = None,
        **plan: Any,
    ) -> AsyncIterator[tuple[Standing, Program]]:  # fmt: skip
        declared = server or proxy.Server("forge", "/mcp.yaml", 3, url=URL)
        standing = Standing(
            entry or host(HOST), rules=rules, servers=(declared,),
            authorities=["/root.pem"], sources=(TextFile("/root.pem", _ROOT.pem.decode()),), **plan,
        )  # fmt: skip
        async with asyncio.timeout(60), spoken(standing, name) as (stand, program):
            serving = asyncio.create_task(self._serve(stand))
            try:
                yield stand, program
            finally:
                serving.cancel()

    async def _serve(self, stand: Standing) -> None:
        while True:
            sock = await stand.upstream.get()
            self.connections += 1
            self._socks.append(sock)
            task = asyncio.create_task(self._connection(sock))
            self._tasks.add(task)

    async def _connection(self, sock: Any) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=self._context)
        except (OSError, asyncio.CancelledError):
            sock.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._writers.append(writer)
        state = h11.Connection(h11.SERVER)
        body, head = b"", None
        try:
            with contextlib.suppress(ConnectionError, h11.RemoteProtocolError):
                while True:
                    event = state.next_event()
                    if event is h11.NEED_DATA:
                        state.receive_data(await reader.read(1 << 16))
                    elif isinstance(event, h11.Request):
                        head, body = event, b""
                    elif isinstance(event, h11.Data):
                        body += bytes(event.data)
                    elif isinstance(event, h11.EndOfMessage):
                        assert head is not None
                        asked = Asked(writer, state, head, body)
                        self.asked.append(asked)
                        await self._answer(asked)
                        if state.our_state is not h11.DONE:
                            break
                        state.start_next_cycle()
                    else:
                        break
        except Exception as error:  # noqa: BLE001 - the test's own mistake
            self.faults.append(error)
        finally:
            writer.close()
