"""One QEMU as this process's child: started with inherited sockets, driven over QMP, ended with its parent.

Refuses to leave one behind: the kernel kills it when the process that started it dies. QEMU opens no socket file and
dials nothing; what it is connected to are the far ends of socket pairs.

    qemu = await launch(lambda descriptors: boot(plan, descriptors, program=program, shared=True), files)
    await qemu.load(state)
    await qemu.execute("cont")
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from qemu.qmp import QMPClient, QMPError

from capsem.errors import MachineError
from capsem.host.memory import blank
from capsem.vm.commandline import Descriptors
from capsem.vm.plan import PORTS

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_ERROR_LIMIT = 16384
# A state is loaded from memory: bytes a second that never bound it.
_UNBOUNDED = 1 << 40
# A number for descriptors that are handed to it; 1 and 2 are its disks.
_DEVICES = 7


def die_with(parent: int) -> Callable[[], None]:
    """Runs in the child between fork and exec: the kernel kills it when `parent` ends (prctl(2))."""

    def arrange() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


@dataclass(slots=True)
class Qemu:
    """One running QEMU.

    Attributes:
        process: the child.
        qmp: its control connection.
        ports: our ends of the guest's ports.
        console: our end of the guest's serial line.
        errors: the last of what it wrote to standard error.
    """

    process: asyncio.subprocess.Process
    qmp: QMPClient
    ports: dict[int, socket.socket]
    console: socket.socket
    errors: bytearray = field(default_factory=bytearray)
    _reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the child."""
        return self.process.pid

    async def execute(self, command: str, **arguments: Any) -> Any:
        """One QMP command; names in `arguments` have `_` for QMP's `-`.

        Raises:
            MachineError: QEMU refused it, or is gone.
        """
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return await self.qmp.execute(command, given or None)
        except (QMPError, OSError, EOFError) as error:
            raise MachineError(
                f"QEMU did not do '{command}': {error}{self._said()}",
                next_step="see capsem logs of the machine",
            ) from error

    def _said(self) -> str:
        lines = bytes(self.errors).decode(errors="replace").strip().splitlines()
        # What it says itself tells more than what it was refused.
        own = [line for line in lines if line.startswith("qemu-system")] or lines
        return f" ({own[-1]})" if own else ""

    async def load(self, state: int) -> None:
        """Load a saved state; the machine then stands stopped, its memory as it is in its file.

        Args:
            state: a descriptor, read from where it stands.

        Raises:
            MachineError: it is not a state of this machine.
        """
        self._send(state)
        # QEMU does them in this order; it is not waited for after each.
        await asyncio.gather(
            self._leave_memory(),
            self.execute("getfd", fdname="state"),
            self.execute("migrate-incoming", uri="fd:state"),
        )
        await self._finished()

    async def save(self, state: int) -> None:
        """Write the stopped machine's state to a descriptor; its memory stays in its file, which it has to write to.

        Args:
            state: a descriptor, written from where it stands.

        Raises:
            MachineError: it could not be written.
        """
        await self._leave_memory()
        await self.execute("migrate-set-parameters", max_bandwidth=_UNBOUNDED)
        await self._give(state, "state")
        await self.execute("migrate", uri="fd:state")
        await self._finished()

    async def devices(self) -> bytes:
        """The stopped machine's devices alone, without its memory (`capsem.vm.state`).

        Raises:
            MachineError: they could not be written.
        """
        room = blank("devices")
        try:
            writing = os.open(f"/proc/self/fd/{room}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                self._send(writing)
            finally:
                os.close(writing)
            await self.execute("add-fd", fdset_id=_DEVICES)
            try:
                await self.execute("xen-save-devices-state", filename=f"/dev/fdset/{_DEVICES}", live=False)
            finally:
                await self.execute("remove-fd", fdset_id=_DEVICES)
            return os.pread(room, os.fstat(room).st_size, 0)
        finally:
            os.close(room)

    async def _leave_memory(self) -> None:
        capabilities = [{"capability": "x-ignore-shared", "state": True}]
        await self.execute("migrate-set-capabilities", capabilities=capabilities)

    async def _give(self, descriptor: int, name: str) -> None:
        self._send(descriptor)
        await self.execute("getfd", fdname=name)

    def _send(self, descriptor: int) -> None:
        try:
            self.qmp.send_fd_scm(descriptor)
        except (OSError, QMPError) as error:
            raise MachineError(f"QEMU did not take a descriptor: {error}", next_step="report this") from error

    async def _finished(self) -> None:
        while True:
            found = await self.execute("query-migrate")
            match found.get("status"):
                case "completed":
                    return
                case "failed" | "cancelled":
                    why = found.get("error-desc", "no reason given")
                    raise MachineError(
                        f"the state could not be moved: {why}{self._said()}", next_step="try again"
                    )
            await asyncio.sleep(0.0005)

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await self.process.wait()

    def was_reset(self) -> bool:
        """Whether it ended since the guest started again: a panic, or a reboot that was asked for inside."""
        told: list[Any] = [event.get("data") for event in self.qmp.events.clear()]
        return any(isinstance(one, dict) and one.get("reason") == "guest-reset" for one in told)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    async def end(self) -> None:
        """Kill it if it runs, wait for it, and let go of everything that led to it."""
        self.kill()
        await self.process.wait()
        with contextlib.suppress(Exception):
            await self.qmp.disconnect()
        if self._reading is not None:
            await self._reading
        for port in self.ports.values():
            port.close()
        self.console.close()


Confine = Callable[[Sequence[str], Sequence[int]], Sequence[str]]


def _as_it_is(line: Sequence[str], descriptors: Sequence[int]) -> Sequence[str]:
    del descriptors
    return line


@dataclass(frozen=True, slots=True)
class Files:
    """What a machine is made of, as descriptors of the caller's (see `Descriptors`), and its ports by number."""

    memory: int
    root: int
    disk: int | None = None
    ports: tuple[int, ...] = PORTS

    @property
    def numbers(self) -> tuple[int, ...]:
        """All of them."""
        return (self.memory, self.root) if self.disk is None else (self.memory, self.root, self.disk)


async def launch(
    line: Callable[[Descriptors], Sequence[str]], files: Files, *, confine: Confine = _as_it_is
) -> Qemu:
    """Start a QEMU and shake hands with it.

    Args:
        line: makes the command line from the numbers of what is inherited.
        files: what the machine is made of; stays the caller's.
        confine: puts a sandbox's command before the line, given the descriptors that must pass through.

    Raises:
        MachineError: it ended before it answered; the message has its last words.
    """
    pairs = {name: socket.socketpair() for name in ("qmp", "console", *files.ports)}
    theirs = {name: pair[1].fileno() for name, pair in pairs.items()}
    descriptors = Descriptors(
        qmp=theirs["qmp"], console=theirs["console"], memory=files.memory, root=files.root, disk=files.disk,
        ports={port: theirs[port] for port in files.ports},
    )  # fmt: skip
    passed = (*theirs.values(), *files.numbers)
    try:
        process = await asyncio.create_subprocess_exec(
            *confine(line(descriptors), passed),
            pass_fds=passed, preexec_fn=die_with(os.getpid()), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        for ours, _ in pairs.values():
            ours.close()
        raise MachineError(f"QEMU does not start: {error}", next_step="see capsem doctor") from error
    finally:
        for _, far in pairs.values():
            far.close()
    for ours, _ in pairs.values():
        ours.setblocking(False)
    qmp = QMPClient("machine")
    # Others are not kept: nobody reads them, and a guest brings them about.
    qmp.events.names = {"SHUTDOWN"}
    qemu = Qemu(process, qmp, {port: pairs[port][0] for port in files.ports}, pairs["console"][0])
    qemu._reading = asyncio.create_task(_keep_errors(qemu))
    try:
        await qmp.connect(pairs["qmp"][0])
    except (QMPError, OSError, EOFError) as error:
        await qemu.end()
        raise MachineError(
            f"QEMU ended with {process.returncode} before it answered{qemu._said()}",
            next_step="see capsem doctor",
        ) from error
    return qemu


async def _keep_errors(qemu: Qemu) -> None:
    assert qemu.process.stderr is not None
    while data := await qemu.process.stderr.read(4096):
        qemu.errors += data
        del qemu.errors[:-_ERROR_LIMIT]
