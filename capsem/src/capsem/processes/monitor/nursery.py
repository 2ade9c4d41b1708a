"""Where monitors come from: one process, one thread, which has loaded what a monitor needs and forks for each machine.

A fork shares what was loaded until one of the two writes to it, and takes milliseconds where a fresh interpreter takes
some hundred. One is forked ahead while nothing is asked for: it has written to the pages that every monitor writes to,
which each costs a copy. The nursery holds nothing of any machine: descriptors go through it unread, into the child, and
are closed here. It ends when the service does, and the one ahead with it; monitors do not. Refuses a sentence that it
does not know, by ending.

    sys.exit(serve(socket.socket(fileno=3)))
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

import msgspec

# Loaded for every machine's use; a monitor alone would load it for one whose network reaches something.
import capsem.processes.monitor.signing
from capsem.errors import MachineError
from capsem.host.operation import told
from capsem.host.qemu import die_with
from capsem.processes.monitor.life import live, say
from capsem.wire.nursery import LIMIT, Begin, decode
from capsule.errors import CapsuleError
from capsule.sandbox.launcher import find_binary

REST_SECONDS = 0.15
"""How long nothing was asked for when one is forked ahead: what was asked for has begun by then."""
_MOST_DESCRIPTORS = 8
_ = capsem.processes.monitor.signing


def serve(service: socket.socket) -> int:
    """Fork until the service hangs up; returns the exit code. A child ends here."""
    # Nobody waits for a monitor: the kernel takes it away, and its end is seen by who asks it something.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is here now is never garbage; a child's collector leaves its pages shared.
    gc.collect()
    gc.freeze()
    ahead: socket.socket | None = None
    while True:
        if ahead is None and not _asked_within(service, REST_SECONDS):
            ahead = _one_ahead(service)
        untrusted, passed = _received(service)
        if not untrusted:
            return 0
        asked = decode(untrusted, len(passed))
        if ahead is None or not _handed_on(ahead, untrusted, passed):
            _fork(service, ahead, asked, passed)
        if ahead is not None:
            ahead.close()
            ahead = None
        for descriptor in passed:
            os.close(descriptor)


def _asked_within(service: socket.socket, seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(service, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def _received(service: socket.socket) -> tuple[bytes, list[int]]:
    """One sentence with its descriptors; a cut one comes as none that anybody knows."""
    untrusted, passed, flags, _ = socket.recv_fds(service, LIMIT, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    return (untrusted if not flags & socket.MSG_TRUNC else b"\0"), passed


def _fork(service: socket.socket, ahead: socket.socket | None, asked: Begin, passed: list[int]) -> None:
    try:
        child = os.fork()
    except OSError as error:
        fault = MachineError(
            f"no process can be started: {error.strerror}", next_step="end some, or raise the limit"
        )
        say(os.dup(passed[0]), msgspec.json.encode(told(fault)))
        return
    if child == 0:
        service.close()
        if ahead is not None:
            ahead.close()
        _monitor(asked, passed)


def _one_ahead(service: socket.socket) -> socket.socket | None:
    """A child that waits on a socket for what it is to be; None where none could be forked, which who asks is told."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            child = os.fork()
        except OSError:
            ours.close()
            return None
        if child == 0:
            service.close()
            ours.close()
            _stand_ready(theirs)
    return ours


def _stand_ready(asking: socket.socket) -> NoReturn:
    """Write to what monitors write to, then be the one that is asked for; without being asked, end with the nursery."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asyncio.run(_a_process())
    untrusted, passed = _received(asking)
    asking.close()
    if not untrusted:
        os._exit(0)
    _monitor(decode(untrusted, len(passed)), passed)


async def _a_process() -> None:
    """Start and end one as a QEMU and a recorder are."""
    with contextlib.suppress(OSError, CapsuleError):
        process = await asyncio.create_subprocess_exec(
            str(find_binary()), "--version", preexec_fn=die_with(os.getpid()), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await process.communicate()


def _handed_on(ahead: socket.socket, untrusted: bytes, passed: Sequence[int]) -> bool:
    """Whether the one ahead took it; it may have been ended from outside."""
    try:
        socket.send_fds(ahead, [untrusted], list(passed))
    except OSError:
        return False
    return True


def _monitor(asked: Begin, passed: list[int]) -> NoReturn:
    """A monitor's process, from here on like one that was started afresh."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    ready, errors, *rest = passed
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.close(errors)
    for descriptor in rest:
        os.set_inheritable(descriptor, False)
    memory, state = (rest[0], rest[1]) if asked.clone else (None, None)
    try:
        code = live(asked, ready, memory=memory, state=state)
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    # The next monitor of this machine waits for our end: the interpreter is not taken apart.
    os._exit(code)
