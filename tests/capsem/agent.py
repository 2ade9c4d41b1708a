"""The agent as an ordinary process behind sockets: the same program and bytes as in a machine, without one.

async with running_agent(tmp_path) as channel: ...          # identified
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from capsem.host.channel import Channel
from capsem.wire.guest import PORTS


@contextlib.contextmanager
def agent_process(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The agent, listening in `directory`; ended when the block is."""
    program = Path(sys.prefix, "bin/capsem-agent")  # where setup puts it
    with subprocess.Popen([str(program), "serve", "--sockets", str(directory)]) as process:
        try:
            last = directory / f"capsem.{PORTS[-1]}"
            until = time.monotonic() + 10
            while not listening(last):
                assert process.poll() is None, "the agent ended"
                assert time.monotonic() < until, "the agent does not listen"
                time.sleep(0.005)
            yield process
        finally:
            process.kill()


def listening(path: Path) -> bool:
    """Whether a socket takes connections. Its name is there a moment earlier."""
    table = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    accepting = "00010000"  # __SO_ACCEPTCON
    return any(line.split()[3] == accepting and line.endswith(f" {path}") for line in table.splitlines()[1:])


def connected(directory: Path, port: int) -> socket.socket:
    """The host's end of one port."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(directory / f"capsem.{port}"))
    return connection


def channel_to(directory: Path) -> Channel:
    """A channel over all ports; enter it."""
    return Channel({port: connected(directory, port) for port in PORTS})


@contextlib.asynccontextmanager
async def running_agent(directory: Path) -> AsyncIterator[Channel]:
    """A channel to an agent that was given its identity."""
    with agent_process(directory):
        async with channel_to(directory) as channel:
            await asyncio.wait_for(channel.hello(), 10)
            await asyncio.wait_for(channel.identify(os.urandom(32), "vm-1", time.time_ns()), 10)
            yield channel
