"""How the tests of `capsule run` call it: one run, its report, its output.

Example: ``Capsule(binary, workspace).run("true").report["exit"]["code"]`` is 0.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Ran:
    """One finished run."""

    code: int
    out: str
    err: str
    report: dict[str, Any]

    @property
    def exit(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["exit"]
        return found


class Capsule:
    """`capsule run` in one workspace. `before` comes before the binary: another user's identity, say."""

    def __init__(self, binary: Path, workspace: Path, before: Sequence[str] = ()) -> None:
        self.binary, self.workspace, self.before = binary, workspace, tuple(before)

    def inside(self, outer: Sequence[str]) -> Capsule:
        """The same, started by one program more."""
        return Capsule(self.binary, self.workspace, [*outer, *self.before])

    def command(self, *words: str, options: Sequence[str] = ()) -> list[str]:
        return [*self.before, str(self.binary), "run", *options, "--", *words]

    def run(
        self,
        *words: str,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        given: str | None = None,
        timeout: float = 60,
    ) -> Ran:
        """Run words; the report comes back by `--json` as the last line of standard error."""
        done = subprocess.run(
            self.command(*words, options=["--json", *options]),
            cwd=self.workspace,
            env={**os.environ, **(env or {})},
            input=given,
            stdin=None if given is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        lines = done.stderr.splitlines()
        report = json.loads(lines[-1]) if lines and lines[-1].startswith('{"capsule":1') else {}
        return Ran(done.returncode, done.stdout, "\n".join(lines[:-1] if report else lines), report)

    def tell(self, words: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A whole command line in the workspace, as a person sees it."""
        return subprocess.run(
            words,
            cwd=self.workspace,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def policy(self, text: str, name: str = "policy.yaml") -> list[str]:
        """Write a policy that extends `workspace`, and say the options that use it."""
        path = self.workspace / name
        path.write_text(f"version: 1\nname: test\nextends: [workspace]\n{text}")
        return ["--policy", f"./{name}"]


def talk(
    words: Sequence[str],
    place: Path,
    lines: Sequence[tuple[bytes, bytes | Callable[[bytes], bytes]]],
    expected: bytes,
) -> tuple[bytes, int]:
    """Run words on a terminal; once the first of a pair was seen, type the second, or what it makes of what was said.

    All that was said, and the exit code.
    """
    waiting = list(lines)
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.execvp(words[0], list(words))
    said = b""
    said_more = select.poll()
    said_more.register(master, select.POLLIN)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if said_more.poll(200):
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            said += part
        if waiting and waiting[0][0] in said:
            # What was announced begins a moment later.
            time.sleep(0.5)
            line = waiting.pop(0)[1]
            os.write(master, line(said) if callable(line) else line)
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert expected in said, said
    return said, os.waitstatus_to_exitcode(status)


def alive(marker: str) -> list[int]:
    """Pids of this machine's processes that have `marker` among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if marker.encode() in arguments:
                found.append(int(entry.name))
    return found
