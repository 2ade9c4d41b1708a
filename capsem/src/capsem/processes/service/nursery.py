"""The service's side of the nursery, which monitors are forked from: started ahead, and again when it has gone.

Refuses to take a monitor for ready before it says so, and passes on what it says went wrong as the error it was.

    nursery = Nursery()
    await nursery.run(Begin(session=str(directory)), directory / "monitor.log")
    nursery.close()                  # monitors run on
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from capsem.errors import MachineError
from capsem.host import places
from capsem.host.operation import raised
from capsem.process import Power
from capsem.processes.service import PROCESS
from capsem.wire.monitor import Failed
from capsem.wire.nursery import Begin, encode

_ANSWER_LIMIT = 65536
assert Power.SPAWN in PROCESS.powers


class Nursery:
    """One nursery."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process, where one runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Start the process, if none runs.

        Raises:
            MachineError: it does not start.
        """
        async with self._starting:
            if self.pid is not None:
                return
            self.close()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            log = os.open(
                places.run() / "nursery.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "capsem.processes.monitor", "--nursery", str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),), start_new_session=True, cwd="/",
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            except OSError as error:
                ours.close()
                raise MachineError(
                    f"no monitor can be started: {error}", next_step="see capsem doctor"
                ) from error
            finally:
                theirs.close()
                os.close(log)
            self._socket = ours

    async def run(self, asked: Begin, log: Path, descriptors: Sequence[int] = ()) -> None:
        """Have a monitor forked, and wait until it says that it is ready or why it is not.

        Args:
            asked: what it is for.
            log: where its complaints go.
            descriptors: what goes with it.

        Raises:
            CapsemError: what it said.
        """
        told = await self._begun(asked, log, descriptors)
        try:
            said = await _all_of(told)
        finally:
            os.close(told)
        if not said:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise MachineError(
                f"the machine's monitor ended before it was ready{': ' + lines[-1] if lines else ''}",
                next_step=f"see {log}",
            )
        if said != b"ready\n":
            raise raised(msgspec.json.decode(said, type=Failed))

    async def ahead(self, asked: Begin, log: Path, descriptors: Sequence[int]) -> int:
        """The same for a machine that is nobody's yet; returns what it takes for the service: closed, it ends.

        Raises:
            CapsemError: what it said.
        """
        told = await self._begun(asked, log, descriptors)
        try:
            said = await _all_of(told, until=b"ready\n")
            if said != b"ready\n":
                raise MachineError("no machine could be made ahead", next_step=f"see {log}")
        except BaseException:
            os.close(told)
            raise
        return told

    async def _begun(self, asked: Begin, log: Path, descriptors: Sequence[int]) -> int:
        """Ask for a monitor; returns the pipe on which it says how it went."""
        told, ready = os.pipe()
        try:
            errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                await self._ask(asked, (ready, errors, *descriptors))
            finally:
                os.close(errors)
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(ready)
        return told

    async def _ask(self, asked: Begin, descriptors: Sequence[int]) -> None:
        for _ in range(2):
            await self.start()
            assert self._socket is not None
            try:
                socket.send_fds(self._socket, [encode(asked)], list(descriptors))
            except (BrokenPipeError, ConnectionResetError):
                # It was ended from outside: another one takes its place.
                self.close()
                continue
            return
        raise MachineError("monitors cannot be started", next_step=f"see {places.run() / 'nursery.log'}")

    def close(self) -> None:
        """Let it end; what was forked from it runs on."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._process = None


async def _all_of(descriptor: int, until: bytes = b"") -> bytes:
    """What comes until the other side has closed it, or until it is what is given."""
    loop, said = asyncio.get_running_loop(), bytearray()
    os.set_blocking(descriptor, False)
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        while len(said) < _ANSWER_LIMIT and not (until and said == until):
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                if not (data := os.read(descriptor, 4096)):
                    break
                said += data
                continue
            await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return bytes(said)
