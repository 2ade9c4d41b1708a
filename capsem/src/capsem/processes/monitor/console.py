"""What a machine writes to its serial line, kept in a file of bounded size.

Refuses to grow: after the limit it says so once and throws away the rest, so that a guest cannot fill the disk.

    keeping = asyncio.create_task(keep(qemu.console, directory / "console.log"))
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

LIMIT = 1 << 20
_NOTICE = b"\n[capsem: the console said more than is kept]\n"


async def keep(console: socket.socket, path: Path, limit: int = LIMIT) -> None:
    """Copy until the other side hangs up.

    Args:
        console: our end, not blocking.
        path: the file; what is in it stays.
        limit: bytes that are kept in all.
    """
    loop = asyncio.get_running_loop()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        room = limit - os.fstat(file).st_size
        while True:
            try:
                untrusted = await loop.sock_recv(console, 65536)
            except OSError:
                return
            if not untrusted:
                return
            if room > 0:
                os.write(file, untrusted[:room])
                room -= len(untrusted)
                if room <= 0:
                    os.write(file, _NOTICE)
    finally:
        os.close(file)
