"""The worker: a warm Python inside a sandbox that forks one child per call, ahead of time.

Its standard input is a socket to the supervisor (docs/formats/control.md). On it come `start`, `load`
(import a module), `fork` (with a socket for the child), `kill` and `reap`. Each child announces itself,
waits for one call on its own socket, answers, and exits (`reap`); so two calls share neither memory nor a
connection, and what a call writes cannot be taken for another's answer. The worker is the subreaper of
all of them: whatever a finished call leaves running is found among the worker's children and killed.

Refuses: to go on when it cannot be subreaper or cannot see its children, because then it could not keep
that promise. The sandbox around it, not this file, is the boundary: a call may do anything to this
process.

    capsule run --control-fd 3 --worker -- python -I -B …/capsule/sdk/worker.py
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import importlib
import inspect
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from typing import Any, Final, NoReturn

_ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # noqa: PTH120
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from capsule.sdk import inside  # noqa: E402 - only importable once the line above has run
from capsule.sdk.locate import find, load_module  # noqa: E402
from capsule.sdk.raised import describe  # noqa: E402
from capsule.sdk.serve import rehearse, serve  # noqa: E402
from capsule.sdk.values import decode  # noqa: E402
from capsule.sdk.wire import HEADER, WireError, length, pack, receive_next, split  # noqa: E402

MAX_FRAME: Final = 1 << 20
"""Bytes of a frame from the supervisor to the worker itself; calls go to the children."""
_SWEEP_SECONDS: Final = 0.25
_PAUSE_MS: Final = 1
"""Between two looks at whether a child that closed its connection has ended; whatever else comes is done at once."""
_REHEARSALS: Final = 20
"""After which the interpreter has replaced by faster ones the instructions that it can."""
_ROOM: Final = socket.CMSG_SPACE(4 * 4)
_PR_SET_CHILD_SUBREAPER: Final = 36

# `os.fork` reads /proc/self/stat after each fork, to warn of threads: a question to the sandbox's monitor, and half of
# what a fork costs. This is the rest of it, in its order.
_before_fork: Final = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_in_child: Final = ctypes.pythonapi.PyOS_AfterFork_Child
_after_fork_in_parent: Final = ctypes.pythonapi.PyOS_AfterFork_Parent
for _function in (_before_fork, _after_fork_in_child, _after_fork_in_parent):
    _function.argtypes, _function.restype = (), None
_fork: Final = ctypes.PyDLL(None, use_errno=True).fork
_fork.argtypes, _fork.restype = (), ctypes.c_int


class Worker:
    """The worker's state: its connection, its children, and the processes that imported modules started."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.slots: dict[int, int] = {}
        """pid → slot, of every child that has not ended."""
        self.leaving: set[int] = set()
        """The slots whose child closed its connection and has not ended yet."""
        self.residents: set[int] = set()
        self.children = os.open(
            f"/proc/{os.getpid()}/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC
        )
        self._pending = b""
        self._descriptors: list[int] = []
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def listen(self) -> None:
        """Serve until the supervisor goes away."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Take the frames that are there, then collect who has ended; False when the supervisor has gone.

        Forks come before collecting: the next call waits for the one, nobody for the other. As few functions as can
        be, because each that runs between two forks writes to pages of its own, which then have to be copied.
        """
        if not self.leaving or self._poll.poll(_PAUSE_MS):
            data, ancillary, _, _ = self.control.recvmsg(65536, _ROOM)
            if not data:
                return False
            for _, _, packed in ancillary:
                self._descriptors += struct.unpack(f"{len(packed) // 4}i", packed)
            data = self._pending + data
            while len(data) >= HEADER:
                end = HEADER + length(data[:HEADER], MAX_FRAME)
                if len(data) < end:
                    break
                envelope, body = split(data[HEADER:end])
                data = data[end:]
                match envelope["kind"]:
                    case "fork":
                        self.fork(envelope["slot"], self._descriptors.pop(0))
                    case "reap":
                        if envelope["slot"] in self.slots.values():
                            self.leaving.add(envelope["slot"])
                    case "kill":
                        self.kill(envelope["slot"])
                    case "load":
                        self.load(envelope["load"], body)
                    case kind:
                        raise WireError(f"an unknown frame {kind!r}")
            self._pending = data
        if self.slots:
            self.collect()
        return True

    def tell(self, envelope: dict[str, object], body: bytes = b"") -> None:
        """Send one frame to the supervisor."""
        self.control.sendall(pack(envelope, body))

    def fork(self, slot: int, descriptor: int) -> None:
        """Make one child that waits for a call."""
        _before_fork()
        pid = _fork()
        if pid == 0:
            _after_fork_in_child()
            self.become_child(descriptor)
        code = ctypes.get_errno() if pid < 0 else 0
        _after_fork_in_parent()
        os.close(descriptor)
        if pid < 0:
            self.tell({"kind": "gone", "slot": slot, "status": None, "clean": True, "errno": code})
        else:
            self.slots[pid] = slot

    def become_child(self, descriptor: int) -> NoReturn:
        """Drop everything that belongs to the worker, and serve one call."""
        os.close(self.children)
        self.control.close()
        os.setsid()
        serve(descriptor)

    def load(self, number: int, body: bytes) -> None:
        """Import what a call needs, so that children already have it."""
        try:
            request: Any = decode(body, "load")
            module = load_module(request["module"], request["file"])
            found = find(module, request["qualname"])
            if inspect.iscoroutinefunction(found):
                importlib.import_module("asyncio")
        except BaseException as error:  # noqa: BLE001 - a module may raise anything at all while it is imported
            self.tell({"kind": "failed", "load": number}, describe(error))
            return
        self.residents = set(self.living()) - self.slots.keys()
        # What the module printed is said once, not by every child that inherits it.
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()
        gc.freeze()
        self.tell({"kind": "loaded", "load": number})

    def kill(self, slot: int) -> None:
        """Kill the child in `slot` and wait until it is dead."""
        for pid, found in self.slots.items():
            if found == slot:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def collect(self) -> None:
        """Take note of the children that have ended, kill what they left running, and say so.

        A child that closed its connection and lives on is not waited for: the supervisor has it killed after a time.
        """
        ended: list[tuple[int, int]] = []
        deadline = 0.0
        while True:
            try:
                while (found := os.waitpid(-1, os.WNOHANG))[0]:
                    if (slot := self.slots.pop(found[0], None)) is not None:
                        self.leaving.discard(slot)
                        ended.append((slot, found[1]))
                    self.residents.discard(found[0])
            except ChildProcessError:
                pass  # there is none left
            if not ended:
                return
            leftovers = [pid for pid in self.living() if pid not in self.slots and pid not in self.residents]
            now = time.monotonic()
            deadline = deadline or now + _SWEEP_SECONDS
            if not leftovers or now > deadline:
                break
            for pid in leftovers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.0002)
        for slot, status in ended:
            code = os.waitstatus_to_exitcode(status)
            self.tell({"kind": "gone", "slot": slot, "status": code, "clean": not leftovers, "errno": None})

    def living(self) -> list[int]:
        """The pids of the worker's children at this moment."""
        return [int(pid) for pid in os.pread(self.children, 65536, 0).split()]


def main() -> None:
    """Take the socket from standard input and serve on it."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0, inheritable=True)
    os.close(null)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = errno.errorcode.get(ctypes.get_errno(), "unknown")
        raise SystemExit(
            f"capsule worker: cannot become the subreaper of its calls ({code}); refusing to serve"
        )
    _, body = receive_next(control, MAX_FRAME)
    start: Any = decode(body, "start")
    sys.path[:] = [*start["path"], *(entry for entry in sys.path if entry not in start["path"])]
    sys.argv[:] = ["capsule-worker"]
    inside.here = inside.Place(start["policy"], start["tool"], frozenset(start["tools"]))
    worker = Worker(control)
    for _ in range(_REHEARSALS):
        rehearse()
    gc.collect()
    gc.freeze()
    gc.disable()
    worker.tell({"kind": "started", "pid": os.getpid()})
    worker.listen()


if __name__ == "__main__":
    try:
        main()
    except (WireError, OSError):
        traceback.print_exc()
        raise SystemExit(70) from None
