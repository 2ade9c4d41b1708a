"""A guest's end of its port 5002, as the agent speaks on it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from capsem.wire import guest
from capsem.wire.frame import Credit, Data, End, FrameReader, Message
from capsem.wire.frame import encode as encode_frame
from tests.capsem.processes.proxy.standing import question


class GuestEnd:
    """Frames of the host, and sentences of the guest. `address` is of the last name that was resolved."""

    def __init__(self, port: socket.socket) -> None:
        port.setblocking(False)
        self._port = port
        self._reader = FrameReader()
        self._frames: list[Any] = []
        self.address: str | None = None

    async def frame(self) -> Any:
        """The next one, but credit and the word that the host reads."""
        async with asyncio.timeout(60):
            while not self._frames:
                data = await asyncio.get_running_loop().sock_recv(self._port, 1 << 16)
                assert data, "the port has hung up"
                self._frames += [
                    frame
                    for frame in self._reader.feed(data)
                    if frame != Message(b'{"type":"serve"}') and not isinstance(frame, Credit)
                ]
        return self._frames.pop(0)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._port, data)

    async def resolve(self, name: str, stream: int) -> int:
        """The code of the answer."""
        await self.send(guest.encode(guest.Open(stream, "dns", None, None, 1, 0, "/bin/x")))
        assert isinstance(await self.frame(), Message)
        await self.send(encode_frame(Data(stream, question(name))) + encode_frame(End(stream)))
        data = await self.frame()
        assert isinstance(data, Data)
        assert await self.frame() == End(stream)
        self.address = socket.inet_ntoa(data.content[-4:]) if data.content[7] else None
        return data.content[3] & 15

    async def request(self, port: int, stream: int, text: bytes) -> None:
        """Connect to the name that was resolved, and send."""
        opened = guest.Open(stream, "tcp", self.address, port, 7, 0, "/usr/bin/curl")
        await self.send(guest.encode(opened))
        assert isinstance(await self.frame(), Message)
        await self.send(encode_frame(Data(stream, text)))
