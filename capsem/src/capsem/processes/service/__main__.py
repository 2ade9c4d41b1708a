"""`python -m capsem.processes.service`: the daemon. Runs once in a home; a second one ends at once.

python -m capsem.processes.service --ready 3
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import socket
import sys
import time

import uvicorn

from capsem.host import places
from capsem.host.restraint import restrain
from capsem.processes.service import PROCESS
from capsem.processes.service.app import build
from capsem.processes.service.bodies import Bounded
from capsem.processes.service.cleaning import clean_now_and_then
from capsem.processes.service.idle import Idle, limit, until_idle
from capsem.processes.service.peers import OwnPeersOnly
from capsem.processes.service.registry import Registry
from capsem.processes.service.resting import Resting
from capsem.processes.service.versioned import Versioned
from capsem.wire.versions import OURS
from capsule.errors import CapsuleError


async def serve(ready: int | None) -> None:
    """Take over what is there, listen, and say so."""
    registry = Registry()
    await registry.adopt()
    path = places.service_socket()
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    listener.setblocking(False)
    if ready is not None:
        os.write(ready, b"ready\n")
        os.close(ready)
    idle, seconds = Idle(Versioned(Bounded(build(registry)), OURS), time.monotonic), limit()
    server = Resting(
        uvicorn.Config(
            idle,
            http=OwnPeersOnly,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            date_header=False,
        )
    )
    leaving = asyncio.create_task(_leave(server, idle, seconds))
    # Whoever asks next needs it; starting it takes longer than the rest of a machine's start.
    nursery = asyncio.create_task(registry.nursery.start())
    cleaning = asyncio.create_task(clean_now_and_then(registry.templates))
    try:
        await server.serve(sockets=[listener])
    finally:
        leaving.cancel()
        nursery.cancel()
        cleaning.cancel()
        path.unlink(missing_ok=True)
        await registry.pool.close()
        registry.templates.close()
        registry.nursery.close()


async def _leave(server: Resting, idle: Idle, seconds: float) -> None:
    await until_idle(idle, seconds)
    server.leave()


def main() -> int:
    """Run the service; 0 also when another one runs already."""
    parser = argparse.ArgumentParser(prog="capsem-service")
    parser.add_argument("--ready", type=int, help="descriptor on which to say that it listens")
    ready = parser.parse_args().ready
    os.umask(0o077)
    try:
        # A client lets it start from wherever it is, with whatever that may do.
        restrain(PROCESS.confinement)
        places.prepare()
        lock = os.open(places.run() / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        asyncio.run(serve(ready))
    except CapsuleError as error:
        sys.stderr.write(f"capsem-service: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
