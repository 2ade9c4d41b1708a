"""Runs inside: sends each case of standard input on a connection of its own, and prints what came back.

Input: a JSON list of `{"host", "sent"}` (bytes as latin-1, to port 80) or `{"host", "streams": [[headers, body,
trailers]]}`
(HTTP/2 over TLS). Output: a JSON list of what was received, as latin-1; for HTTP/2 `status …`, `reset …` or `closed`.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

PATIENCE = 0.6


def plain(case: dict[str, Any]) -> str:
    got = b""
    try:
        with socket.create_connection((case["host"], 80), 20) as sock:
            sock.sendall(case["sent"].encode("latin-1"))
            sock.settimeout(PATIENCE)
            while part := sock.recv(65536):
                got += part
    except TimeoutError:
        got += b"<silence>"
    except OSError as error:
        got += f"<{type(error).__name__}>".encode()
    return got.decode("latin-1")


def streams(case: dict[str, Any]) -> str:
    context = ssl.create_default_context(cafile=os.environ["CA"])
    context.set_alpn_protocols(["h2"])
    said = []
    raw = socket.create_connection((case["host"], 443), 20)
    try:
        with context.wrap_socket(raw, server_hostname=case["host"]) as sock:
            http = h2.connection.H2Connection(
                h2.config.H2Configuration(
                    client_side=True, header_encoding=None, validate_outbound_headers=False,
                    normalize_outbound_headers=False,
                )
            )  # fmt: skip
            http.initiate_connection()
            for number, (headers, body, trailers) in enumerate(case["streams"]):
                pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
                http.send_headers(2 * number + 1, pairs, end_stream=not body)
                if body:
                    http.send_data(2 * number + 1, body.encode("latin-1"), end_stream=not trailers)
                if trailers:
                    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in trailers]
                    http.send_headers(2 * number + 1, pairs, end_stream=True)
            sock.sendall(http.data_to_send())
            until = time.monotonic() + PATIENCE + 1
            left = len(case["streams"])
            while left and time.monotonic() < until:
                sock.settimeout(max(until - time.monotonic(), 0.01))
                data = sock.recv(65536)
                if not data:
                    said.append("closed")
                    break
                for event in http.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived):
                        said.append("status " + dict(event.headers or [])[b":status"].decode())
                    elif isinstance(event, h2.events.StreamReset):
                        said.append(f"reset {event.error_code}")
                        left -= 1
                    elif isinstance(event, h2.events.ConnectionTerminated):
                        said.append("closed")
                        left = 0
                    elif isinstance(event, h2.events.StreamEnded):
                        left -= 1
                sock.sendall(http.data_to_send())
    except TimeoutError:
        said.append("silence")
    except (OSError, h2.exceptions.ProtocolError) as error:
        said.append(type(error).__name__)
    return ", ".join(said)


if __name__ == "__main__":
    with ThreadPoolExecutor(8) as pool:
        cases = json.loads(sys.stdin.read())
        print(json.dumps(list(pool.map(lambda case: (plain if "sent" in case else streams)(case), cases))))
