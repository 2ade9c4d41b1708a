"""A proxy in this process between a monitor and a guest that the test plays, with real sockets and real frames."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import Any, Self

from capsem.host.handover import Handover
from capsem.host.memory import blank
from capsem.processes.monitor.signing import make_signer
from capsem.processes.proxy.serving import serve
from capsem.vm.network import NOTHING, NetworkSpec, TextFile, session
from capsem.wire import guest, proxy
from capsem.wire.frame import Credit, Data, End, Frame, FrameReader, Message, Reset
from capsem.wire.frame import encode as encode_frame


def host(name: str, *ports: int, **fields: Any) -> dict[str, Any]:
    entry = {"host": name, "ports": ports or (443, 80), "methods": None, "paths": None, "inspect": "auto"}
    return {**entry, "private": False, **fields}


def question(name: str, number: int = 7) -> bytes:
    labels = b"".join(len(label).to_bytes() + label.encode() for label in name.split("."))
    return number.to_bytes(2) + b"\x01\x00\x00\x01\0\0\0\0\0\0" + labels + b"\0\0\x01\0\x01"


class Standing:
    """The monitor's and the guest's side of one proxy. `upstream` is the far end of the last connection."""

    def __init__(
        self,
        *hosts: dict[str, Any],
        rules: str = "",
        servers: tuple[str | proxy.Server, ...] = (),
        sources: tuple[TextFile, ...] = (),
        values: dict[str, Any] | None = None,
        **plan: Any,
    ) -> None:
        spec = NetworkSpec("p", "d", json.dumps({**NOTHING, "hosts": hosts, **plan}), sources)
        texts = [TextFile("/r.yaml", rules)] if rules else []
        self.signer = make_signer(tuple(entry["host"] for entry in hosts))
        self._session = session("m-1", spec, texts, values or {})
        self._servers = tuple(
            proxy.Server(one, "/mcp.yaml", 3) if isinstance(one, str) else one for one in servers
        )
        self.entries: list[dict[str, Any]] = []
        self.said: list[Any] = []
        self.refusing: str | None = None
        self.noting = True
        self.upstream: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.changed = asyncio.Event()
        self._stream = 0

    async def __aenter__(self) -> Self:
        ours, theirs = socket.socketpair()
        self.port, far = socket.socketpair()
        self.port.setblocking(False)
        self.mcp, far_mcp = socket.socketpair()
        self.mcp.setblocking(False)
        self.serving = asyncio.create_task(serve(theirs))
        self.handover = Handover(ours, on_message=self._heard, on_end=lambda _: None)
        self.handover.start()
        content = blank("beginning")
        os.write(
            content,
            proxy.encode_beginning(
                proxy.Beginning(self._session, self.signer, self._servers, ("Mine", "m-1"))
            ),
        )
        self.handover.send(proxy.encode(proxy.Begin()), [far.detach(), far_mcp.detach(), content])
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda: any(isinstance(one, proxy.Ready) for one in self.said))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        self.handover.close("done")
        async with asyncio.timeout(10):
            await self.serving
        while not self.upstream.empty():
            self.upstream.get_nowait().close()  # dialled for what nobody was there to take any more
        self.port.close()
        self.mcp.close()

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    def _heard(self, message: Message) -> None:
        said = proxy.decode_proxy(message)
        self.said.append(said)
        match said:
            case proxy.Record(entry):
                self.entries.append(entry)
            case proxy.Note(number) if self.noting:
                self.handover.send(proxy.encode(proxy.Noted(number)))
            case proxy.Serve() if self.refusing is not None:
                self.handover.send(proxy.encode(proxy.Served(said.id, self.refusing)))
            case proxy.Serve():
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                self.upstream.put_nowait(ours)
                self.handover.send(proxy.encode(proxy.Served(said.id, None)), [theirs.detach()])
            case proxy.Dial() if self.refusing is not None:
                self.handover.send(proxy.encode(proxy.Dialled(said.id, None, self.refusing, forbidden=True)))
            case proxy.Dial():
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                self.upstream.put_nowait(ours)
                self.handover.send(
                    proxy.encode(proxy.Dialled(said.id, "192.0.2.9:443", None)), [theirs.detach()]
                )
        self.changed.set()

    async def _read(self) -> None:
        loop, reader = asyncio.get_running_loop(), FrameReader()
        while data := await loop.sock_recv(self.port, 1 << 16):
            for frame in reader.feed(data):
                self.frames.put_nowait(frame)

    # The guest.

    async def send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # after a fault the port hangs up
            await asyncio.get_running_loop().sock_sendall(self.port, data)

    async def frame(self) -> Frame:
        """The next frame of the host, but credit."""
        async with asyncio.timeout(10):
            while isinstance(found := await self.frames.get(), Credit):
                pass
        return found

    async def open(self, kind: str, address: str | None = None, port: int | None = None, **who: Any) -> int:
        self._stream += 1
        said = {"pid": 42, "uid": 1000, "program": "/usr/bin/curl", **who}
        opened = guest.Open(stream=self._stream, kind=kind, address=address, port=port, **said)  # type: ignore[arg-type]
        await self.send(guest.encode(opened))
        return self._stream

    async def opened(self, stream: int) -> None:
        frame = await self.frame()
        assert isinstance(frame, Message), frame
        assert guest.decode_host(frame) == guest.Opened(stream)

    async def resolve(self, name: str) -> tuple[int, str | None]:
        """The code of the answer, and its address."""
        stream = await self.open("dns")
        await self.opened(stream)
        await self.send(encode_frame(Data(stream, question(name))) + encode_frame(End(stream)))
        data, end = await self.frame(), await self.frame()
        assert isinstance(data, Data)
        assert end == End(stream)
        code = data.content[3] & 15
        return code, socket.inet_ntoa(data.content[-4:]) if data.content[7] else None


__all__ = ["Data", "End", "Reset", "Standing", "host", "question"]
