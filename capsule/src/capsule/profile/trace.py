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
from collections.abc import Sequence
from pathlib import Path

from capsule.errors import CapsuleError
from capsule.profile.observation import (
    Observation,
    ObservationError,
    encode_observation,
    merge,
    parse_observation,
)
from capsule.sandbox.launcher import find_binary

OBSERVATION = "observation.json"


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
    with tempfile.TemporaryDirectory(prefix="capsule-trace-") as folder:
        out = Path(folder) / OBSERVATION
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
