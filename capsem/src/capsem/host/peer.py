"""Who is at the other end of a Unix socket, as the kernel tells (SO_PEERCRED in unix(7)).

Refuses nothing; who is not ours is its caller's to hang up on.

    is_ours(connection)                      # this user, or root
"""

from __future__ import annotations

import os
import socket
import struct


def peer_user(connection: socket.socket) -> int:
    """The user id of the process at the other end of a Unix socket."""
    return _peer(connection)[1]


def peer_process(connection: socket.socket) -> int:
    """That process; of one who listens, the one that began to."""
    return _peer(connection)[0]


def _peer(connection: socket.socket) -> tuple[int, int]:
    process, user, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(process), int(user)


def is_ours(connection: socket.socket) -> bool:
    """Whether the other end is this user, or root."""
    return peer_user(connection) in {0, os.geteuid()}
