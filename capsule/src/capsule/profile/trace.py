"""Run a command under the sandbox in observe mode and read what was seen. The I/O of profiling.

The native `capsule trace` does the watching, under the same walls as a run: what the policy refuses stays refused
and is counted. What it refuses: to watch without a sandbox.

    seen = observe(["git", "status"], policy=None)
    store(Path("sysprofile"), seen)
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from capsule import temporary
from capsule.errors import CapsuleError
from capsule.profile.observation import (
    FileUse,
    Observation,
    ObservationError,
    ProgramUse,
    encode_observation,
    merge,
    parse_observation,
)
from capsule.sandbox.launcher import find_binary

OBSERVATION = "observation.json"
_HEAD = 256
"""Bytes of a script's first line that the kernel looks at (BINPRM_BUF_SIZE)."""
_DEEPEST, _LINKS = 5, 40
"""Interpreters of interpreters, and links after one another, that the kernel follows."""


class TraceError(CapsuleError):
    """The command was not observed at all."""


def observe(command: Sequence[str], *, policy: str | None = None) -> Observation:
    """Run ``command`` to its end; what it prints goes to standard error, so that the answer stands alone.

    Args:
        command: program and arguments.
        policy: file or preset in force while watching; None for what `capsule run` would take.

    Raises:
        TraceError: the sandbox refused, or nothing was written; standard error has said why.
        ObservationError: what was written is not an observation.
    """
    with temporary.directory("capsule-trace-") as folder:
        out = folder / OBSERVATION
        argv = [str(find_binary()), "trace", "--out", str(out)]
        if policy is not None:
            argv += ["--policy", policy]
        status = subprocess.run([*argv, "--", *command], stdout=2, check=False).returncode
        try:
            data = out.read_bytes()
        except FileNotFoundError:
            raise TraceError(
                f"{command[0]} was not observed (capsule trace exited {status})",
                next_step="see the lines above, or `capsule doctor` for what this machine lacks",
            ) from None
    return parse_observation(data)


def read_commands(path: Path) -> list[list[str]]:
    """One command a line, given to the shell; empty lines and lines that begin with ``#`` are passed over.

    Raises:
        TraceError: the file cannot be read or holds no command.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(
            f"{path} cannot be read: {error}", next_step="name a text file of commands, one a line"
        ) from None
    commands = [
        ["/bin/sh", "-c", line] for line in lines if line.strip() and not line.lstrip().startswith("#")
    ]
    if not commands:
        raise TraceError(f"{path} holds no command", next_step="write one command a line")
    return commands


def with_interpreters(seen: Observation) -> Observation:
    """The same, with what the kernel runs in a script's place (execve(2), *Interpreter scripts*).

    It is on no record, and the script does not start without it. As the files are now; every link on the way is named.
    """
    programs = Counter({use.path: use.count for use in seen.programs})
    files = {use.path: use for use in seen.files}
    for use in seen.programs:
        for path in _interpreters(use.path):
            known = files.get(path, FileUse(path))
            files[path] = msgspec.structs.replace(known, execute=known.execute + use.count)
            programs[path] += use.count
    return msgspec.structs.replace(
        seen,
        files=tuple(use for _, use in sorted(files.items())),
        programs=tuple(ProgramUse(path, count) for path, count in sorted(programs.items())),
    )


def _interpreters(script: str) -> list[str]:
    """Interpreters of a script, and of those that are scripts themselves, with the links that lead to them."""
    found: list[str] = []
    for _ in range(_DEEPEST):
        try:
            with Path(script).open("rb") as file:
                head = file.read(_HEAD)
        except (OSError, ValueError):
            return found
        words = head.partition(b"\n")[0].removeprefix(b"#!").split()
        if not head.startswith(b"#!") or not words or not words[0].startswith(b"/"):
            return found
        script = os.path.normpath(os.fsdecode(words[0]))
        for _ in range(_LINKS):
            found.append(script)
            try:
                script = os.path.normpath(Path(script).parent / Path(script).readlink())
            except OSError:
                break  # no link, or not there
    return found


def stored(folder: Path) -> Observation | None:
    """The observation that earlier runs left in ``folder``, or None.

    Raises:
        ObservationError: there is a file, and it is not an observation.
    """
    try:
        return parse_observation((folder / OBSERVATION).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ObservationError(f"{folder / OBSERVATION} cannot be read: {error.strerror}") from None


def store(folder: Path, seen: Observation, earlier: Observation | None = None) -> Observation:
    """Merge with ``earlier`` and write ``observation.json``, whole or not at all; what was written."""
    merged = seen if earlier is None else merge(earlier, seen)
    write_whole(folder / OBSERVATION, encode_observation(merged))
    return merged


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file in one step, so that a reader finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
