"""The resolver inside: answers on the sockets that were opened in the sandbox's namespace.

UDP answers leave from the address that was asked (`IP_PKTINFO`, ip(7)); TCP carries two bytes of length (RFC 1035
§4.2.2). What is asked is decided by the session; nothing asked here leaves this process. Refuses packets over 4 KiB,
and more TCP connections at once than `CONNECTIONS`.

    resolver = Resolver(udp, tcp, answer=session.answer)
    resolver.start()
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

PACKET = 4096
CONNECTIONS = 64
IDLE = 10.0
"""Seconds that a TCP connection may be silent."""
_TURN = 64  # packets answered before others have their turn
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_INFO = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, specific destination, destination
_ANCILLARY = socket.CMSG_SPACE(_INFO.size)

Answer = Callable[[bytes, str, tuple[str, int]], bytes | None]
"""From a question's bytes, the transport and the source to an answer's bytes; None is no answer."""


class Resolver:
    """Both transports of one session."""

    def __init__(self, udp: socket.socket, tcp: socket.socket, answer: Answer) -> None:
        self._udp = udp
        self._tcp = tcp
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begins to answer."""
        for sock in (self._udp, self._tcp):
            sock.setblocking(False)
        self._udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._loop.add_reader(self._udp.fileno(), self._packets)
        self._loop.add_reader(self._tcp.fileno(), self._accept)

    def close(self) -> None:
        """Ends it; both sockets are closed."""
        for sock in (self._udp, self._tcp):
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock.fileno())
                sock.close()
        for task in self._tasks:
            task.cancel()

    def _packets(self) -> None:
        for _ in range(_TURN):
            try:
                data, ancillary, flags, source = self._udp.recvmsg(PACKET, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier answer
            if flags & socket.MSG_TRUNC:
                continue
            answer = self._answer(data, "udp", source)
            if answer is None:
                continue
            info = [
                (
                    socket.IPPROTO_IP,
                    _IP_PKTINFO,
                    _INFO.pack(0, _INFO.unpack(content[: _INFO.size])[2], b"\0" * 4),
                )
                for level, kind, content in ancillary
                if level == socket.IPPROTO_IP and kind == _IP_PKTINFO
            ]
            try:
                self._udp.sendmsg([answer], info, 0, source)
            except OSError:
                continue  # whoever asked is gone; it asks again

    def _accept(self) -> None:
        try:
            sock, source = self._tcp.accept()
        except OSError:
            return
        if len(self._tasks) >= CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._converse(sock, source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, sock: socket.socket, source: tuple[str, int]) -> None:
        with sock:
            try:
                while True:
                    async with asyncio.timeout(IDLE):
                        length = int.from_bytes(await self._exactly(sock, 2), "big")
                        if length > PACKET:
                            return
                        answer = self._answer(await self._exactly(sock, length), "tcp", source)
                        if answer is None:
                            return
                        await self._loop.sock_sendall(sock, len(answer).to_bytes(2, "big") + answer)
            except (OSError, TimeoutError):
                return  # gone, or silent

    async def _exactly(self, sock: socket.socket, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = await self._loop.sock_recv(sock, count - len(data))
            if not part:
                raise ConnectionResetError("the end in a question")
            data += part
        return bytes(data)
