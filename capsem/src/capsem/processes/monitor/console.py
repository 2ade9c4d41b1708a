"""What a machine writes to its serial line, kept in a file of bounded size.

Refuses to grow: after the limit it says so once and throws away the rest, so that a guest cannot fill the disk. What
there is no room for is thrown away, too: a console that nobody reads would have the guest's kernel wait for ever.

    keeping = asyncio.create_task(keep(qemu.console, directory / "console.log"))
"""

from __future__ import annotations

import asyncio
import contextlib
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
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    file, room = None, 0
    with contextlib.suppress(OSError):
        file = os.open(path, flags, 0o600)
        room = limit - os.fstat(file).st_size
    try:
        while True:
            try:
                untrusted = await loop.sock_recv(console, 65536)
            except OSError:
                return
            if not untrusted:
                return
            if file is not None and room > 0:
                with contextlib.suppress(OSError):
                    room -= os.write(file, untrusted[:room])
                    if room <= 0:
                        os.write(file, _NOTICE)
    finally:
        if file is not None:
            os.close(file)
