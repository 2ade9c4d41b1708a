"""Try to reach sockets. Run inside: `reach.py PORT OTHER_PORT`; prints JSON from what was tried to what came of it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Callable

NAMED, OTHER = int(sys.argv[1]), int(sys.argv[2])
RESULTS: dict[str, str] = {}
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def attempt(label: str, act: Callable[[], object]) -> None:
    try:
        RESULTS[label] = str(act())
    except OSError as error:
        names = {95: "EOPNOTSUPP"}
        RESULTS[label] = names.get(error.errno or 0, errno.errorcode.get(error.errno or 0, "?"))


def tcp(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=20) as connection:
        return connection.recv(99).decode()


def unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return connection.recv(99).decode()


async def tcp_stream() -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", NAMED)
    text = await reader.read()
    writer.close()
    return text.decode()


async def unix_stream() -> str:
    reader, writer = await asyncio.open_unix_connection("named.sock")
    text = await reader.read()
    writer.close()
    return text.decode()


def own_listener() -> str:
    """A socket bound inside may be reached, also after it was renamed."""
    server = socket.socket(socket.AF_UNIX)
    server.bind("own.sock")
    server.listen()
    os.rename("own.sock", "own2.sock")

    def answer() -> None:
        with server.accept()[0] as connection:
            connection.sendall(b"own")

    threading.Thread(target=answer).start()
    return unix("own2.sock")


os.symlink("other.sock", "alias.sock")
attempt("port", lambda: tcp("127.0.0.1", NAMED))
attempt("asyncio port", lambda: asyncio.run(tcp_stream()))
attempt("named.sock", lambda: unix(os.path.abspath("named.sock")))
attempt("asyncio named.sock", lambda: asyncio.run(unix_stream()))
attempt("own listener", own_listener)
attempt("other port", lambda: tcp("127.0.0.1", OTHER))
attempt("other.sock", lambda: unix("other.sock"))
attempt("other.sock by another name", lambda: unix("alias.sock"))
attempt("internet", lambda: tcp("192.0.2.1", 80))
attempt("internet over IPv6", lambda: tcp("2001:db8::1", 80))
attempt("metadata service", lambda: tcp("169.254.169.254", 80))
attempt("metadata service, mapped", lambda: tcp("::ffff:169.254.169.254", 80))
attempt("datagram", lambda: socket.socket(socket.AF_INET, UDP).sendto(b"x", ("192.0.2.1", 53)))
attempt(
    "datagram by sendmsg",
    lambda: socket.socket(socket.AF_INET, UDP).sendmsg([b"x"], [], 0, ("192.0.2.1", 53)),
)
attempt("fast open", lambda: socket.socket().sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", OTHER)))
attempt("unix datagram", lambda: socket.socket(socket.AF_UNIX, UDP))
attempt("unix datagram pair", lambda: socket.socketpair(socket.AF_UNIX, UDP))
attempt("multipath", lambda: socket.socket(socket.AF_INET, TCP, 262))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
print(json.dumps(RESULTS))
