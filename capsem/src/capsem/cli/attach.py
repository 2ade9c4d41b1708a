"""A command in a machine, attached to this terminal: its streams are ours, byte for byte, and so is its exit code.

Refuses a terminal where there is none. What the command writes is not looked at: it goes where our output goes.

    exited = asyncio.run(attach(socket, Exec(argv=("ls",), stdin=True)))
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from capsem.cli import terminal
from capsem.cli.report import Course, code_of
from capsem.errors import MachineError
from capsem.host.operation import Operation, Output, begin
from capsem.wire.monitor import Exec, Exited, Size

_CHUNK = 65536
_LEAVING, _LEAVING_SECONDS = 3, 10.0
"""With how many signals, within how long, a command is left that does not end of them."""
_PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def window() -> Size:
    """This terminal's size; one that has none (expect, script) is of the usual one."""
    columns, rows = os.get_terminal_size(sys.stdin.fileno())
    return Size(rows=rows or 24, columns=columns or 80)


@contextlib.contextmanager
def _raw(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    kept = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, kept)


async def attach(socket: Path, asked: Exec) -> Exited:
    """Run it; returns how it ended."""
    operation = await begin(socket, asked)
    loop = asyncio.get_running_loop()
    work: set[asyncio.Task[None]] = set()

    def later(coroutine: object) -> None:
        task = asyncio.ensure_future(coroutine)  # type: ignore[call-overload]
        work.add(task)
        task.add_done_callback(work.discard)

    left: asyncio.Future[Exited] = loop.create_future()
    came: list[float] = []

    def passed_on(number: int) -> None:
        came[:] = [one for one in came if loop.time() - one < _LEAVING_SECONDS]
        if number != signal.SIGHUP:
            came.append(loop.time())
        if len(came) < _LEAVING:
            later(operation.signal(number))
        elif not left.done():
            terminal.complain(
                [f"the command did not end after {_LEAVING} signals: it is left, and killed there"]
            )
            left.set_result(Exited(None, number, False, 0, 0))

    if asked.tty is None:
        for number in _PASSED:
            loop.add_signal_handler(number, passed_on, number)
    else:
        loop.add_signal_handler(
            signal.SIGWINCH, lambda: later(operation.resize(window().rows, window().columns))
        )
    if asked.stdin:
        later(_feed(operation))
    coming = asyncio.create_task(_output(operation))
    try:
        with _raw(asked.tty is not None):
            await asyncio.wait({coming, left}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else left.result()
    finally:
        for task in (coming, *work):
            task.cancel()
        await asyncio.gather(coming, *work, return_exceptions=True)
        await operation.close()


async def attached(socket: Path, asked: Exec, course: Course, *, as_json: bool = False) -> int:
    """The same, told to the course of a report; returns the exit code."""
    course.exited = exited = await attach(socket, asked)
    if exited.timed_out and not as_json:
        terminal.complain(["the command's time was over; it was killed"])
    return code_of(exited)


async def _output(operation: Operation) -> Exited:
    async for said in operation:
        if isinstance(said, Output):
            await asyncio.to_thread(_write_all, 2 if said.errors else 1, said.content)
        elif isinstance(said, Exited):
            return said
    raise MachineError("the machine said nothing of the command's end", next_step="see capsem list")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


async def _feed(operation: Operation) -> None:
    """Our input to the command. A thread reads it, since a file or a pipe may not be polled."""
    import threading

    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(4)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # nobody waits for it any more
            while True:
                room.acquire()
                try:
                    data = os.read(0, _CHUNK)
                except OSError:
                    data = b""  # what cannot be read has ended
                loop.call_soon_threadsafe(pieces.put_nowait, data)
                if not data:
                    return

    threading.Thread(target=read, daemon=True).start()
    while data := await pieces.get():
        room.release()
        await operation.write(data)
    await operation.end_input()
