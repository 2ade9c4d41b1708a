"""The live share of one machine: the process that serves the directory, the guest's side of it, and what is recorded.

Refuses to let a command run before the share is mounted. Neither the process nor the guest is believed: what was
refused is recorded as it is told, within bounds. When the share ends before its machine, that is on the log.

    sharing = Sharing(directory, evidence.write)
    await sharing.start("/home/u/project", qemu.ports[5006], channel)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from capsem.errors import CapsemError, MachineError
from capsem.host.channel import Channel
from capsem.host.confinement import sharing as confined
from capsem.host.flow import Incoming
from capsem.host.jobs import GuestError, Job
from capsem.host.memory import blank
from capsem.host.qemu import die_with
from capsem.processes.monitor.evidence import when_there_is_room

AGENT, INSIDE = "/capsem/capsem-agent", "/workspace"
SECONDS = 30.0
REPORTS = 200
_LINE = 8192
_OLD = "capsem image build it again; its agent or its kernel is of before live shares"


async def _first(untrusted: Incoming) -> bytes:
    """What a guest's program complains of, up to a line's bytes; it may complain without end."""
    said = b""
    while len(said) < _LINE and (piece := await untrusted.read()):
        said += piece
    return said[:_LINE]


class Sharing:
    """One machine's.

    Args:
        directory: of the machine.
        write: puts an entry on its log.
    """

    def __init__(self, directory: Path, write: Callable[[str, dict[str, Any]], Awaitable[None]]) -> None:
        self._directory = directory
        self._write = write
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int | None:
        """Of the program that confines the share; None: none runs."""
        return None if self._process is None else self._process.pid

    async def start(self, workspace: str, port: socket.socket, channel: Channel) -> None:
        """Serve the directory and have it mounted; returns when it is there.

        Args:
            workspace: the directory.
            port: our end of the guest's port; handed over.
            channel: the way to the agent.

        Raises:
            CapsemError: the directory may not be shared, or the guest does not mount it.
        """
        # What reads policies is loaded for a machine that shares.
        from capsem.host.settings import load
        from capsem.host.sharing import limits, told

        most = limits(await asyncio.to_thread(load))
        about = await asyncio.to_thread(told, Path(workspace), most)
        try:
            async with asyncio.timeout(SECONDS):
                await self._serve(about, port)
                job = await self._mounted(channel)
        except TimeoutError:
            raise MachineError(
                f"{workspace} was not mounted within {SECONDS:g} s", next_step="see capsem logs"
            ) from None
        except GuestError as error:
            raise MachineError(f"{workspace} is not mounted: {error.message}", next_step=_OLD) from error
        await self._write(
            "machine.shared", {"directory": workspace, "access": "live", "limits": about["limits"]}
        )
        assert self._process is not None
        self._tasks += [
            asyncio.create_task(self._reports(self._process)), asyncio.create_task(self._until_over(job))
        ]  # fmt: skip

    async def _serve(self, about: dict[str, Any], port: socket.socket) -> None:
        content = blank("share")
        errors = os.open(
            self._directory / "share.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(content, json.dumps(about).encode())
            self._process = await asyncio.create_subprocess_exec(
                *confined(self._directory / "share.capsule.log", content), stdin=port.fileno(),
                stdout=asyncio.subprocess.PIPE, stderr=errors, pass_fds=[content], preexec_fn=die_with(os.getpid()),
                start_new_session=True, cwd=about["directory"], limit=_LINE,
            )  # fmt: skip
        except OSError as error:
            raise MachineError(
                f"the share does not start: {error}", next_step="see capsule doctor"
            ) from error
        finally:
            port.close()
            os.close(errors)
            os.close(content)
        assert self._process.stdout is not None
        if await self._process.stdout.readline() != b'{"serves": true}\n':
            raise MachineError("the share does not start", next_step=f"see {self._directory / 'share.log'}")

    @staticmethod
    async def _mounted(channel: Channel) -> Job:
        job = await channel.exec([AGENT, "share", INSIDE])
        said = b""
        while not said.endswith(b"\n") and len(said) < _LINE and (piece := await job.stdout.read()):
            said += piece
        if said != b"mounted\n":
            why = (await _first(job.stderr)).decode(errors="replace").strip()[:400]
            raise MachineError(
                f"the machine does not mount its share: {why or 'no reason given'}", next_step=_OLD
            )
        return job

    async def _reports(self, process: asyncio.subprocess.Process) -> None:
        """Put what was refused on the log; more than `REPORTS` is one entry that says so.

        A share that says something else, or of which nothing can be recorded, is ended.
        """
        assert process.stdout is not None
        count = 0
        try:
            while untrusted_line := await process.stdout.readline():
                count += 1
                if count <= REPORTS:
                    said = json.loads(untrusted_line)
                    if not isinstance(said, dict):
                        raise ValueError("no report")
                    fields = {key: str(said.get(key, ""))[:1024] for key in ("act", "path", "why")}
                    await when_there_is_room(self._write, "machine.share_refused", fields)
                if count == REPORTS:
                    more = {"act": "more", "path": "", "why": "not recorded"}
                    await when_there_is_room(self._write, "machine.share_refused", more)
        except (CapsemError, ValueError):
            self._end()

    async def _until_over(self, job: Job) -> None:
        assert self._process is not None
        guest = asyncio.create_task(job.wait())
        host = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait((guest, host), return_when=asyncio.FIRST_COMPLETED)
            who = "its process on the host" if host.done() else "the machine's side of it"
        finally:
            for task in (guest, host):
                task.cancel()
        with contextlib.suppress(CapsemError):
            await self._write("machine.share_lost", {"reason": f"{who} ended"})
        self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """End it with its machine."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._end()
        if self._process is not None:
            await self._process.wait()
            self._process = None
