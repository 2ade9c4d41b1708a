"""A server that keeps every byte of every connection, and answers whole requests; `/answer/NAME` as that case says."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path

import h11


class RawServer:
    """On loopback; HTTP/1.1 only. `connections` holds what came on each."""

    def __init__(self, certificate: tuple[Path, Path] | None, answers: dict[str, bytes]) -> None:
        self.connections: list[bytearray] = []
        self.answers = answers
        self.context: ssl.SSLContext | None = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
            self.context.set_alpn_protocols(["http/1.1"])
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)

        async def start() -> None:
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
            self.port = self.server.sockets[0].getsockname()[1]
            self._started.set()

        self.loop.run_until_complete(start())
        self.loop.run_forever()
        self.server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(asyncio.sleep(0.02))
        self.loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = bytearray()
        self.connections.append(kept)
        http = h11.Connection(h11.SERVER)
        try:
            while data := await reader.read(65536):
                kept += data
                http.receive_data(data)
                while (event := http.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
                    if isinstance(event, h11.Request):
                        path = event.target.decode("latin-1")
                    elif isinstance(event, h11.EndOfMessage):
                        name = path.partition("/answer/")[2]
                        if name:
                            writer.write(self.answers[name])
                            await writer.drain()
                            return
                        answer = h11.Response(status_code=200, headers=[("content-length", "2")])
                        writer.write((http.send(answer) or b"") + (http.send(h11.Data(data=b"ok")) or b""))
                        http.send(h11.EndOfMessage())
                        if http.our_state is h11.MUST_CLOSE:
                            return
                        http.start_next_cycle()
                    elif isinstance(event, h11.ConnectionClosed):
                        return
                await writer.drain()
        except (h11.RemoteProtocolError, ConnectionError, ssl.SSLError):
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        finally:
            writer.close()
