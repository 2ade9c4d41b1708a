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
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final, NoReturn

_ROOT: Final = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from capsule.sdk import inside  # noqa: E402 - only importable once the line above has run
from capsule.sdk.locate import find, load_module  # noqa: E402
from capsule.sdk.raised import describe  # noqa: E402
from capsule.sdk.serve import serve  # noqa: E402
from capsule.sdk.values import decode  # noqa: E402
from capsule.sdk.wire import HEADER, WireError, pack, receive_next  # noqa: E402

MAX_FRAME: Final = 1 << 20
"""Bytes of a frame from the supervisor to the worker itself; calls go to the children."""
_SWEEP_SECONDS: Final = 0.25
_PR_SET_CHILD_SUBREAPER: Final = 36


class Worker:
    """The worker's state: its connection, its children, and the processes that imported modules started."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.slots: dict[int, int] = {}
        """pid → slot, of every child that has not ended."""
        self.residents: set[int] = set()
        self.children = os.open(
            f"/proc/{os.getpid()}/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC
        )

    def listen(self) -> None:
        """Serve until the supervisor goes away."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Take one frame; False when the supervisor has gone."""
        header, descriptors, _, _ = socket.recv_fds(self.control, HEADER, 4)
        if not header:
            return False
        envelope, body = receive_next(self.control, MAX_FRAME, header)
        match envelope["kind"]:
            case "fork":
                self.fork(int(envelope["slot"]), descriptors[0])
            case "load":
                self.load(int(envelope["load"]), body)
            case "kill":
                self.kill(int(envelope["slot"]))
                self.reap()
            case "reap":
                self.reap(int(envelope["slot"]))
            case kind:
                raise WireError(f"an unknown frame {kind!r}")
        return True

    def tell(self, envelope: dict[str, object], body: bytes = b"") -> None:
        """Send one frame to the supervisor."""
        self.control.sendall(pack(envelope, body))

    def fork(self, slot: int, descriptor: int) -> None:
        """Make one child that waits for a call."""
        try:
            pid = os.fork()
        except OSError as error:
            os.close(descriptor)
            self.tell({"kind": "gone", "slot": slot, "status": None, "clean": True, "errno": error.errno})
            return
        if pid == 0:
            self.become_child(descriptor)
        os.close(descriptor)
        self.slots[pid] = slot

    def become_child(self, descriptor: int) -> NoReturn:
        """Drop everything that belongs to the worker, and serve one call."""
        os.close(self.children)
        self.control.close()
        os.setsid()
        serve(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=descriptor))

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

    def reap(self, expected: int | None = None) -> None:
        """Collect the children that have ended, waiting briefly for `expected`, and kill what they left.

        The supervisor says when: it sees a child's connection end. A child that only pretends to leave is not
        waited for; the supervisor has it killed after a time.
        """
        ended: list[tuple[int, int]] = []
        deadline = time.monotonic() + _SWEEP_SECONDS
        patience = 20
        while True:
            self._collect(ended)
            if expected in self.slots.values() and patience:
                patience -= 1
                time.sleep(0.0001)
                continue
            leftovers = [pid for pid in self.living() if pid not in self.slots and pid not in self.residents]
            if not leftovers or time.monotonic() > deadline:
                break
            for pid in leftovers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.0002)
        for slot, status in ended:
            code = os.waitstatus_to_exitcode(status)
            self.tell({"kind": "gone", "slot": slot, "status": code, "clean": not leftovers, "errno": None})

    def _collect(self, ended: list[tuple[int, int]]) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (slot := self.slots.pop(pid, None)) is not None:
                ended.append((slot, status))
            self.residents.discard(pid)

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
