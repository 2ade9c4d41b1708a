"""Run a build tool of this host, watch its lines, and say what went wrong in its own words.

Refuses a tool that is missing, with the line that installs it. What a tool began ends when this process is interrupted
or killed, and when the tool is.

    run(["make", "-s", "kernelrelease"], what="the kernel's version", cwd=tree)
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from capsem.errors import ImageError

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "dpkg-deb": "dpkg",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "gcc": "gcc",
    "make": "make",
    "lz4": "lz4",
    "xz": "xz-utils",
    "cpio": "cpio",
    "newuidmap": "uidmap",
    "npm": "npm",
    "gelf.h": "libelf-dev",
}
_KEPT = 12
# What a tool began that was killed: so long it has to end in order.
_END_SECONDS = 5.0
# Waits for a word; when the one who would say it is gone, the tool's group is told to end, and after a while made to.
_GUARD = """read -r over && exit
kill -s TERM -- "-$1"
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  kill -s 0 -- "-$1" || exit 0
  sleep 0.5
done
kill -s KILL -- "-$1"
"""


def has_header(name: str) -> bool:
    """Whether the C compiler finds a header; without a compiler it does not."""
    if shutil.which("gcc") is None:
        return False
    asked = ["gcc", "-E", "-x", "c", "-o", os.devnull, "-"]
    text = f"#include <{name}>\n".encode()
    return subprocess.run(asked, input=text, capture_output=True, check=False).returncode == 0


def need(*programs: str, headers: Sequence[str] = ()) -> None:
    """Check that these programs, and headers of C, are there.

    Raises:
        ImageError: some are missing; the next step installs all of them.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    missing += [header for header in headers if not has_header(header)]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES.get(program, program) for program in missing))
        raise ImageError(
            f"not on this machine: {', '.join(missing)}",
            next_step=f"sudo apt-get install -y --no-install-recommends {packages}",
        )


def run(
    arguments: Sequence[str | Path],
    *,
    what: str,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seen: Callable[[str], None] | None = None,
    feed: Callable[[IO[bytes]], None] | None = None,
) -> str:
    """Run a program to its end and return what it wrote to standard output and errors.

    Args:
        arguments: the program and its arguments.
        cwd: where it runs.
        what: what it is for, in errors.
        environment: added to this process's own.
        seen: called with every line as it comes.
        feed: writes the program's input.

    Raises:
        ImageError: it did not end with 0; the message has its last lines.
    """
    need(str(arguments[0]))
    process = subprocess.Popen(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "capsem-guard", str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    try:
        return _watched(process, what, seen, feed)
    finally:
        if process.poll() is None:
            # The tool has children of its own (make, apt): the whole session goes.
            os.killpg(process.pid, 15)
            process.wait()
        with contextlib.suppress(BrokenPipeError):  # somebody ended it
            guard.communicate(b"over\n")
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


class _Death(threading.Thread):
    """Ends what a tool began, once a signal has ended the tool: it would go on, and its words would be waited for.

    Args:
        process: the tool; nobody else may wait for it before this has ended.
        last: its last lines; those from before it was killed are `words` afterwards.
    """

    def __init__(self, process: subprocess.Popen[bytes], last: deque[str]) -> None:
        super().__init__(daemon=True)
        self._group, self._last = process.pid, last
        self.words: list[str] | None = None
        self.silent = threading.Event()

    def run(self) -> None:
        """Until the tool has ended, and what it began, too."""
        try:
            # Not waited for, its number is nobody else's.
            ended = os.waitid(os.P_PID, self._group, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_code == os.CLD_EXITED:
            return
        self.words = list(self._last)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._group, signal.SIGTERM)
            self.silent.wait(_END_SECONDS)
            os.killpg(self._group, signal.SIGKILL)


def _watched(
    process: subprocess.Popen[bytes],
    what: str,
    seen: Callable[[str], None] | None,
    feed: Callable[[IO[bytes]], None] | None,
) -> str:
    assert process.stdout is not None
    broken: OSError | None = None
    last: deque[str] = deque(maxlen=_KEPT)
    death = _Death(process, last)
    death.start()
    if feed is not None:
        assert process.stdin is not None
        try:
            feed(process.stdin)
            process.stdin.close()
        except BrokenPipeError as error:
            broken = error
    lines: list[str] = []
    try:
        for untrusted_line in process.stdout:
            line = untrusted_line.decode("utf-8", "replace").rstrip("\n")
            lines.append(line)
            last.append(line)
            if seen is not None and death.words is None:
                seen(line)
    finally:
        death.silent.set()
    death.join()
    code = process.wait()
    if death.words is not None:
        raise ImageError(
            f"{what} failed: {_name(process)} was killed ({_signal(code)})" + _quoted(death.words),
            next_step="see who did it (dmesg says whether memory was short), and repeat; nothing half-done was kept",
        )
    if code != 0 or broken is not None:
        words = "\n".join(last)
        full = os.strerror(errno.ENOSPC) in words or "ENOSPC" in words
        raise ImageError(
            f"{what} failed: {_name(process)} ended with {code}" + _quoted(last),
            next_step=_next_step(words, full=full),
        )
    return "\n".join(lines)


def _name(process: subprocess.Popen[bytes]) -> str:
    return Path(process.args[0]).name  # type: ignore[index, arg-type]


def _signal(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _quoted(words: Iterable[str]) -> str:
    return "".join(f"\n{line}" for line in words)


_NO_NETWORK = (
    "Temporary failure resolving",
    "Could not resolve",
    "Could not connect",
    "Failed to fetch",
    "EAI_AGAIN",
    "ENOTFOUND",
    "ECONNREFUSED",
    "Network is unreachable",
)


def _next_step(words: str, *, full: bool) -> str:
    if full:
        return "free some space (CAPSEM_HOME and CAPSEM_CACHE can be elsewhere); nothing half-done was kept"
    if any(sign in words for sign in _NO_NETWORK):
        return (
            "see that this machine reaches a Debian mirror (apt-get update), npm's registry (npm ping), "
            "and repeat; nothing half-done was kept"
        )
    if "newuidmap" in words or "/etc/subuid" in words or "unshare" in words:
        return "give this user a range in /etc/subuid and /etc/subgid and install uidmap, or build as root"
    return "see the words above; nothing half-done was kept"
