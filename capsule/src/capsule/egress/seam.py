"""Asks over HTTP/1.1 on the daemon's own socket: one request a connection, for the command line and the dashboard.

The peer's user was checked before. Refuses a head over 8 KiB, a body over 4 KiB, every method and path but the
documented ones, and requests that a browser's page could make (those with an `Origin`).

    await serve(server, sock)
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from capsule.egress.asks import AnswerError, parse_answer

if TYPE_CHECKING:
    from capsule.egress.server import Server

HEAD = 8 << 10
BODY = 4 << 10
TIMEOUT = 10.0
WAIT = 120.0
"""Seconds that a request may wait for a change."""
_REASONS = {
    200: "OK", 204: "No Content", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    409: "Conflict", 413: "Content Too Large",
}  # fmt: skip
Reply = tuple[int, Any]


async def serve(server: Server, sock: socket.socket) -> None:
    """Answers one request and closes."""
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=HEAD)
    try:
        status, content = await _answer(server, reader)
        body = b"" if content is None else json.dumps(content).encode() + b"\n"
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
        kind = "content-type: application/json\r\n" if body else ""
        writer.write(f"{head}{kind}cache-control: no-store\r\n\r\n".encode() + body)
        writer.close()
        async with asyncio.timeout(TIMEOUT):
            await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return  # it went away, never said all, or does not read
    finally:
        # Off the loop here and now: whoever called closes the socket, and the next one may get its number.
        writer.transport.abort()


async def _answer(server: Server, reader: asyncio.StreamReader) -> Reply:
    async with asyncio.timeout(TIMEOUT):
        try:
            untrusted_head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return 413, {"error": f"a head of more than {HEAD} bytes"}
        line, *rows = untrusted_head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (row.partition(":") for row in rows if row)
        }
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return 400, {"error": "not a request of HTTP/1"}
        if "origin" in headers:
            return 403, {"error": "pages of a browser are not answered"}
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or "transfer-encoding" in headers:
            return 400, {"error": "a body needs its content-length"}
        if int(length) > BODY:
            return 413, {"error": f"a body of more than {BODY} bytes"}
        untrusted_body = await reader.readexactly(int(length))
    path, _, query = words[1].partition("?")
    return await _route(server, words[0], path, query, untrusted_body)


async def _route(server: Server, method: str, path: str, query: str, untrusted_body: bytes) -> Reply:
    parts = path.strip("/").split("/")
    if parts == ["sessions"]:
        return (200, {"sessions": server.describe()}) if method == "GET" else (405, {"error": "GET only"})
    if parts == ["asks"]:
        if method != "GET":
            return 405, {"error": "GET only"}
        untrusted_wait = parse_qs(query).get("wait", ["0"])[0]
        if not untrusted_wait.isascii() or not untrusted_wait.isdigit():
            return 400, {"error": "wait: seconds"}
        if not server.asks():  # what waits already is told at once
            await server.change(min(float(untrusted_wait), WAIT))
        return 200, {"asks": server.asks()}
    if len(parts) == 2 and parts[0] == "asks":
        if method != "POST":
            return 405, {"error": "POST only"}
        try:
            answer = parse_answer(untrusted_body)
        except AnswerError as error:
            return 400, {"error": str(error)}
        outcome = server.answer(parts[1], answer)
        if outcome == "gone":
            return 404, {"error": f"no ask {parts[1][:40]!r} here"}
        return (
            (409, {"error": "it was answered, or its time is over"}) if outcome == "answered" else (204, None)
        )
    return 404, {"error": "GET /asks, POST /asks/ID, GET /sessions"}
