"""A question to the service, as bytes; and one that is sent at once, while its client loads what reads the answer.

Refuses a service of another user, and one that does not run: whoever waits for an answer starts it, or says why not.

    sent = ahead("POST", "/machines", {"image": "default"})    # None: nothing was asked
    machine = await call("POST", "/machines", body, sent=sent)
"""

from __future__ import annotations

import json
import socket

from capsem.errors import CapsemError
from capsem.host import places
from capsem.host.peer import is_ours
from capsem.wire.versions import OURS


def said(method: str, path: str, content: bytes) -> bytes:
    """One question of HTTP, to its last byte; `content` is JSON, or nothing."""
    head = (
        f"{method} {path} HTTP/1.1", "Host: capsem", "Connection: close", "Content-Type: application/json",
        *(f"{name}: {text}" for name, text in OURS.fields.items()), f"Content-Length: {len(content)}", "", "",
    )  # fmt: skip
    return "\r\n".join(head).encode("ascii") + content


def ahead(method: str, path: str, body: object) -> socket.socket | None:
    """Ask a service that runs; returns where it will answer, or None when the whole question could not be sent.

    One of which a part was not sent is not answered, and nothing is done for it.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        places.short_enough()
        content = json.dumps(body, ensure_ascii=False).encode()
        connection.connect(str(places.service_socket()))
        if is_ours(connection):
            connection.sendall(said(method, path, content))
            return connection
    except (OSError, CapsemError, ValueError):
        # Whoever waits for the answer asks again, and is told what is wrong.
        pass
    connection.close()
    return None
