"""Where monitors come from: one process, one thread, which has loaded what a monitor needs and forks for each machine.

A fork shares what was loaded until one of the two writes to it, and takes milliseconds where a fresh interpreter takes
some hundred. The nursery holds nothing of any machine: descriptors go through it unread, into the child, and are closed
here. It ends when the service does; monitors do not. Refuses a sentence that it does not know, by ending.

    sys.exit(serve(socket.socket(fileno=3)))
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys

import msgspec

# Loaded for every machine's use; a monitor alone would load it for one whose network reaches something.
import capsem.processes.monitor.signing
from capsem.errors import MachineError
from capsem.host.operation import told
from capsem.processes.monitor.life import live, say
from capsem.wire.nursery import LIMIT, Begin, decode

_MOST_DESCRIPTORS = 8
_ = capsem.processes.monitor.signing


def serve(service: socket.socket) -> int:
    """Fork until the service hangs up; returns the exit code, in the nursery and in each child."""
    # Nobody waits for a monitor: the kernel takes it away, and its end is seen by who asks it something.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is here now is never garbage; a child's collector leaves its pages shared.
    gc.collect()
    gc.freeze()
    while True:
        untrusted, passed, flags, _ = socket.recv_fds(
            service, LIMIT, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not untrusted:
            return 0
        asked = decode(untrusted if not flags & socket.MSG_TRUNC else b"", len(passed))
        try:
            child = os.fork()
        except OSError as error:
            fault = MachineError(
                f"no process can be started: {error.strerror}", next_step="end some, or raise the limit"
            )
            say(os.dup(passed[0]), msgspec.json.encode(told(fault)))
            child = -1
        if child == 0:
            service.close()
            return _monitor(asked, passed)
        for descriptor in passed:
            os.close(descriptor)


def _monitor(asked: Begin, passed: list[int]) -> int:
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
        return live(asked, ready, memory=memory, state=state)
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
