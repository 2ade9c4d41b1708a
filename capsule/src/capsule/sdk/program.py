"""One program, started by a worker's child for `Sandbox.run`, with its output held in memory up to a limit.

Runs inside the sandbox. Refuses output beyond the limit: the program is killed and the answer says so.

    run(["git", "status"], limit=1 << 20)      # {"code": 0, "signal": None, "stdout": b"…", "stderr": b""}
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import Any


class OutputLimitError(Exception):
    """The program wrote more than the limit, and was killed."""


def run(
    argv: list[str], *, env: dict[str, str] | None, cwd: str | None, data: bytes, limit: int
) -> dict[str, Any]:
    """Run `argv` to its end; this process has no other work and may change directory.

    Raises:
        FileNotFoundError, PermissionError: there is no such program, or it may not be executed.
        OutputLimitError: more than `limit` bytes on standard output and error together.
    """
    if cwd is not None:
        os.chdir(cwd)
    if env:
        os.environ.update(env)
    pipes = [os.pipe() for _ in range(3)]
    ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
    actions = [
        (os.POSIX_SPAWN_DUP2, end, number)
        for number, end in enumerate([pipes[0][0], pipes[1][1], pipes[2][1]])
    ]
    pid = os.posix_spawnp(
        argv[0], argv, os.environ, file_actions=actions, setsigmask=[], setsigdef=[signal.SIGINT]
    )
    for end in (pipes[0][0], pipes[1][1], pipes[2][1]):
        os.close(end)
    try:
        outputs = _converse(ours, data, limit)
    except OutputLimitError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": code if code >= 0 else 128 - code,
        "signal": -code if code < 0 else None,
        "stdout": bytes(outputs[0]),
        "stderr": bytes(outputs[1]),
    }


def _converse(ours: list[int], data: bytes, limit: int) -> tuple[bytearray, bytearray]:
    """Feed the program and collect what it says, until it has closed both outputs."""
    feed, out, err = ours
    outputs = {out: bytearray(), err: bytearray()}
    poll = select.poll()
    for end in (out, err):
        poll.register(end, select.POLLIN)
    if data:
        os.set_blocking(feed, False)
        poll.register(feed, select.POLLOUT)
    else:
        os.close(feed)
    pending, total, open_ends = memoryview(data), 0, 2
    while open_ends:
        for end, _ in poll.poll():
            if end == feed:
                try:
                    pending = pending[os.write(feed, pending[:65536]) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    pending = pending[len(pending) :]
                if not pending:
                    poll.unregister(feed)
                    os.close(feed)
                continue
            chunk = os.read(end, 65536)
            if not chunk:
                poll.unregister(end)
                os.close(end)
                open_ends -= 1
            total += len(chunk)
            if total > limit:
                raise OutputLimitError(f"the program wrote more than {limit} bytes")
            outputs[end] += chunk
    return outputs[out], outputs[err]
