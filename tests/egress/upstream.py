"""A server on loopback that behaves, or misbehaves, by path: HTTP/1.1 and HTTP/2, with TLS or without."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events

BLOCK = bytes(1 << 18)


class Upstream:
    """One listening port; `seen` has the heads of all requests, `accepted` counts connections."""

    def __init__(
        self,
        certificate: tuple[Path, Path] | None,
        protocols: tuple[str, ...] = ("h2", "http/1.1"),
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._place = address
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.trailers: list[dict[str, str]] = []
        self.accepted = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.context: ssl.SSLContext | None = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
            self.context.set_alpn_protocols(list(protocols))
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._main, args=(started,), daemon=True)
        self.thread.start()
        assert started.wait(10)

    def _main(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)

        async def start() -> None:
            self.server = await asyncio.start_server(
                self._serve, *self._place, ssl=self.context, limit=1 << 20, backlog=1024
            )
            self.port = self.server.sockets[0].getsockname()[1]
            started.set()

        self.loop.run_until_complete(start())
        self.loop.run_forever()
        self.server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(asyncio.sleep(0.02))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.add(writer)
        tls = writer.get_extra_info("ssl_object")
        try:
            if tls is not None and tls.selected_alpn_protocol() == "h2":
                await _Http2(self, reader, writer).run()
            else:
                while await self._one(reader, writer):
                    pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
        self.seen.append((method, target, headers))
        path, _, argument = target.partition("?")[0].lstrip("/").partition("/")
        behaviour: Callable[..., Any] | None = getattr(self, f"on_{path.replace('-', '_')}", None)
        if behaviour is None:
            await self._discard(reader, headers)
            self._answer(writer, f"hello {target}".encode())
        else:
            await behaviour(reader, writer, headers, argument)
        await writer.drain()
        return not writer.is_closing()

    @staticmethod
    def _answer(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", extra: str = "") -> None:
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode() + body)

    async def _discard(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> int:
        total = 0
        async for part in self._body(reader, headers):
            total += len(part)
        return total

    @staticmethod
    async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> Any:
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                yield await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
            return
        left = int(headers.get("content-length", "0"))
        while left:
            part = await reader.read(min(left, 1 << 18))
            if not part:
                raise ConnectionResetError
            left -= len(part)
            yield part

    async def on_size(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        self._answer(writer, str(await self._discard(reader, headers)).encode())

    async def on_routed(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        """A front end that takes other fields for the Host, as some do."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        forwarded = said.get("forwarded", "").partition("host=")[2]
        names = (said.get(name) for name in ("x-forwarded-host", "x-host", "x-original-host"))
        name = next(filter(None, (forwarded, *names, said.get("host"))), "")
        self._answer(writer, f"the page of {name}".encode())

    async def on_reflect(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        target = self.seen[-1][1]
        self._answer(writer, target.encode(), extra=f"x-target: {target}\r\n")

    async def on_mirror(self, reader: Any, writer: Any, headers: dict[str, str], argument: str) -> None:
        """The Authorization header back in a header and in a JSON body, in the form that is asked for."""
        shown = headers.get("authorization", "")
        body = json.dumps({"headers": {"authorization": shown}, "args": self.seen[-1][1], "n": 1.10}).encode()
        extra = f"x-was: {shown}\r\ncontent-type: application/json\r\n"
        if argument == "gzip":
            self._answer(writer, gzip.compress(body), extra=extra + "content-encoding: gzip\r\n")
        elif argument == "odd":
            self._answer(writer, body, extra=extra + "content-encoding: odd\r\n")
        elif argument == "pieces":
            writer.write(f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{extra}\r\n".encode())
            for byte in body:
                writer.write(b"1\r\n%c\r\n" % byte)
            writer.write(b"0\r\n\r\n")
        elif argument == "long":
            self._answer(writer, body + bytes(2 << 20), extra=extra)
        elif argument == "events":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            writer.write(b"event: x\ndata: " + body + b"\n\ndata: [DONE]\n\n")
            writer.close()
        else:
            self._answer(writer, body, extra=extra)

    async def on_shout(self, reader: Any, writer: Any, headers: dict[str, str], where: str) -> None:
        """The credential where no body is: in the head, well-formed or not."""
        said = headers.get("authorization", "").rpartition(" ")[2]
        rest = "content-length: 2\r\nconnection: close\r\n\r\nok"
        raw = {
            "reason": f"HTTP/1.1 200 {said}\r\n{rest}",
            "name": f"HTTP/1.1 200 OK\r\nx-{said}: 1\r\n{rest}",
            "name-other-case": f"HTTP/1.1 200 OK\r\nX-{said.title()}: 1\r\n{rest}",
            "status-line": f"{said} 200 OK\r\n{rest}",
            "status": f"HTTP/1.1 {said} OK\r\n{rest}",
            "header-line": f"HTTP/1.1 200 OK\r\n{said}\r\n{rest}",
            "header-name": f"HTTP/1.1 200 OK\r\nx {said}: 1\r\n{rest}",
            "long-name": f"HTTP/1.1 200 OK\r\n{'x' * 30}{said} : 1\r\n{rest}",
            "length": f"HTTP/1.1 200 OK\r\ncontent-length: {said}\r\nconnection: close\r\n\r\nok",
            "encoding": f"HTTP/1.1 200 OK\r\ntransfer-encoding: {said}\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "coding": f"HTTP/1.1 200 OK\r\ncontent-encoding: {'x' * 30}{said}\r\n{rest}",
            "chunk": f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{said}\r\nok\r\n0\r\n\r\n",
        }
        writer.write(raw[where].encode())
        await writer.drain()
        writer.close()

    async def on_echo(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        async for part in self._body(reader, headers):
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def on_bytes(self, reader: Any, writer: Any, headers: dict[str, str], argument: str) -> None:
        left = int(argument)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % left)
        while left:
            part = BLOCK[: min(left, len(BLOCK))]
            writer.write(part)
            left -= len(part)
            await writer.drain()

    async def on_sse(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number in range(5):
            part = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0.15)
        writer.write(b"0\r\n\r\n")

    async def on_trailers(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        size = await self._discard(reader, headers)
        body = str(size).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n0\r\nx-sum: 1\r\n\r\n" % (len(body), body))

    async def on_early_hints(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        self._answer(writer, b"after the hints")

    async def on_until_eof(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall there is")
        writer.close()

    async def on_ws(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        accept = base64.b64encode(
            hashlib.sha1(
                headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            ).digest()
        )
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %b\r\n\r\n" % accept
        )
        while True:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await reader.readexactly(8), "big")
            mask = await reader.readexactly(4)
            data = await reader.readexactly(size)
            plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
            if first & 0xF == 8:
                writer.write(b"\x88" + bytes([len(plain)]) + plain)
                writer.close()
                return
            length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
            writer.write(bytes([first]) + length + plain)

    async def on_mcp(self, reader: Any, writer: Any, headers: dict[str, str], argument: str) -> None:
        """A server of MCP: answers each request of the body as JSON, or as events with one of its own before."""
        sent = b"".join([part async for part in self._body(reader, headers)])
        self.bodies.append(sent)
        message = json.loads(sent or b"{}")
        if "id" not in message:
            self._answer(writer, b"", "202 Accepted")
            return
        failed = message.get("params", {}).get("name") == "broken"
        result = {"content": [{"type": "text", "text": "done"}], "isError": failed}
        reply = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        extra = "mcp-session-id: s-1\r\n" if message["method"] == "initialize" else ""
        if argument != "events":
            self._answer(writer, reply.encode(), extra=extra + "content-type: application/json\r\n")
            return
        own = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
        stream = f"event: message\ndata: {own}\n\nevent: message\ndata: {reply}\n\n".encode()
        self._answer(writer, stream, extra=extra + "content-type: text/event-stream\r\n")

    async def on_slow(self, reader: Any, writer: Any, headers: dict[str, str], argument: str) -> None:
        await asyncio.sleep(float(argument))
        self._answer(writer, b"late")

    async def on_drip_head(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        """Slow-loris: a head that goes on a byte at a time, and never ends."""
        writer.write(b"HTTP/1.1 200 OK\r\nx-more: ")
        while True:
            writer.write(b"y")
            await writer.drain()
            await asyncio.sleep(0.2)

    async def on_half(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        """Half of a body, and then nothing."""
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"h" * 1000)
        await writer.drain()
        await asyncio.sleep(600)

    async def on_both_lengths(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 X\r\n\r\n"
        )

    async def on_endless_head(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _number in range(4096):
            writer.write(b"x-more: " + b"y" * 120 + b"\r\n")
            await writer.drain()

    async def on_unasked_upgrade(self, reader: Any, writer: Any, headers: dict[str, str], _: str) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nfreely spoken"
        )
        await writer.drain()
        await asyncio.sleep(0.5)

    async def on_believed(self, reader: Any, writer: Any, headers: dict[str, str], argument: str) -> None:
        """Answers 101 as a server may that has agreed to nothing, and takes what follows for requests."""
        said = b"upgrade: websocket\r\nconnection: Upgrade\r\n" if argument == "said" else b""
        if argument == "agreed":
            said = b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: %b\r\n" % (
                base64.b64encode(
                    hashlib.sha1(
                        headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                    ).digest()
                )
            )
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + said + b"\r\n")

    async def on_reset(self, reader: Any, writer: Any, headers: dict[str, str], when: str) -> None:
        """Resets before the head, in it, after it, in the body, in a chunk or its size, in trailers, in an upload."""
        if when == "in-upload":
            await reader.readexactly(1 << 16)
        chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        pieces = {
            "before": b"", "in-head": b"HTTP/1.1 200 O", "after-head": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
            "in-body": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfour", "in-chunk": chunked + b"9\r\nfour",
            "in-chunk-size": chunked + b"4\r\nfour\r\n1", "in-trailers": chunked + b"4\r\nfour\r\n0\r\nx-su",
            "in-upload": b"",
        }  # fmt: skip
        writer.write(pieces[when])
        await writer.drain()
        await asyncio.sleep(0.05)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class _Http2:
    """HTTP/2: echoes bodies as they come, with trailers as gRPC has them; `/reset/…` resets the stream."""

    def __init__(
        self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.upstream = upstream
        self.reader = reader
        self.writer = writer
        self.http = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.waiting: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.paths: dict[int, str] = {}
        self.sizes: dict[int, int] = {}

    async def run(self) -> None:
        self.http.initiate_connection()
        self.http.increment_flow_control_window(1 << 24)
        while True:
            self.flush()
            self.writer.write(self.http.data_to_send())
            await self.writer.drain()
            data = await self.reader.read(1 << 18)
            if not data:
                return
            for event in self.http.receive_data(data):
                self.on(event)

    def on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            assert event.headers is not None
            headers = {str(k): str(v) for k, v in event.headers}
            stream, path = event.stream_id, headers[":path"]
            self.upstream.seen.append((headers[":method"], path, headers))
            self.paths[stream] = path
            self.waiting[stream] = bytearray()
            self.sizes[stream] = 0
            if path.startswith("/reset"):
                del self.waiting[stream]
                self.http.reset_stream(stream, 2)
                return
            kind = "application/grpc" if path.startswith("/grpc") else "text/plain"
            self.http.send_headers(stream, [(":status", "200"), ("content-type", kind)])
            if path.startswith("/bytes/"):
                self.waiting[stream] += bytes(int(path.rpartition("/")[2]))
        elif (
            isinstance(event, h2.events.DataReceived | h2.events.StreamEnded)
            and event.stream_id not in self.waiting
        ):
            pass
        elif isinstance(event, h2.events.DataReceived):
            stream = event.stream_id
            self.sizes[stream] += len(event.data)
            self.http.acknowledge_received_data(event.flow_controlled_length, stream)
            if not self.paths[stream].startswith("/size"):
                self.waiting[stream] += event.data
        elif isinstance(event, h2.events.StreamEnded):
            stream = event.stream_id
            if self.paths[stream].startswith("/size"):
                self.waiting[stream] += str(self.sizes[stream]).encode()
            elif not self.sizes[stream] and not self.waiting[stream]:
                self.waiting[stream] += f"hello {self.paths[stream]}".encode()
            self.ended.add(stream)
        elif isinstance(event, h2.events.TrailersReceived):
            self.upstream.trailers.append({str(k): str(v) for k, v in event.headers or []})
        elif isinstance(event, h2.events.StreamReset):
            self.waiting.pop(event.stream_id, None)

    def flush(self) -> None:
        for stream, data in list(self.waiting.items()):
            while data:
                room = min(
                    self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size, len(data)
                )
                if room <= 0:
                    break
                self.http.send_data(stream, bytes(data[:room]))
                del data[:room]
            if not data and stream in self.ended:
                del self.waiting[stream]
                self.http.send_headers(stream, [("grpc-status", "0")], end_stream=True)
