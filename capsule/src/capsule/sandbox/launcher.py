"""Finding the native `capsule`, and the command lines that start it.

The binary is looked for in a fixed order and nowhere else: the variable `CAPSULE_BINARY`, the scripts
directory of this interpreter's environment, beside the interpreter, the user's scripts directory, `PATH`.
Refuses a path that is not an executable file, naming every place it looked.

    find_binary()                                    # Path('/…/.venv/bin/capsule')
    command(Request(policy="p.yaml"), ["ls"])        # ['/…/capsule', 'run', '--policy', 'p.yaml', '--', 'ls']
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from capsule.errors import SandboxError

VARIABLE = "CAPSULE_BINARY"


@dataclass(frozen=True, slots=True)
class Request:
    """The options of one `capsule run`.

    Attributes:
        policy: a file, or None for the nearest `capsule.yaml` or the preset.
        log: a file, or None for the default.
        tool: whose overrides (`tools:` in the policy) apply.
        env: variables to add to what the policy passes.
        timeout: seconds until everything is killed.
        overlay: whether changes go to a layer for review.
        allow_degraded: layers that may be missing.
        read: directories that may be read and executed from beyond the policy; recorded on the log.
    """

    policy: str | None = None
    log: str | None = None
    tool: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    overlay: bool = False
    allow_degraded: Sequence[str] = ()
    read: Sequence[str] = ()


def _places() -> Iterator[Path]:
    if named := os.environ.get(VARIABLE):
        yield Path(named)
        return
    yield Path(sysconfig.get_path("scripts")) / "capsule"
    yield Path(sys.prefix) / "bin" / "capsule"
    yield Path(sys.executable or "/").parent / "capsule"
    yield Path(sysconfig.get_path("scripts", scheme=f"{os.name}_user")) / "capsule"
    if found := shutil.which("capsule"):
        yield Path(found)


@functools.cache
def _find(_variable: str | None) -> str:
    looked = list(dict.fromkeys(_places()))
    for place in looked:
        if place.is_file() and os.access(place, os.X_OK):
            return str(place)
    raise SandboxError(
        "the native capsule was not found; looked at " + ", ".join(str(place) for place in looked),
        next_step=f"install the capsule wheel for this interpreter, or name the binary in {VARIABLE}",
    )


def find_binary() -> Path:
    """The path of the native binary.

    Raises:
        SandboxError: it is nowhere; the message lists where it was looked for.
    """
    return Path(_find(os.environ.get(VARIABLE)))


def command(request: Request, argv: Sequence[str], *options: str) -> list[str]:
    """The command line that runs `argv` as `request` says, with further `options` of `capsule run`."""
    line = [str(find_binary()), "run"]
    for option, value in (("--policy", request.policy), ("--log", request.log), ("--tool", request.tool)):
        if value is not None:
            line += [option, value]
    for name, value in request.env.items():
        line += ["--env", f"{name}={value}"]
    if request.timeout is not None:
        line += ["--timeout", f"{request.timeout:.3f}"]
    if request.overlay:
        line.append("--overlay")
    for layer in request.allow_degraded:
        line += ["--allow-degraded", layer]
    for path in request.read:
        line += ["--read", path]
    return [*line, *options, "--", *argv]


def interpreter_reads() -> list[str]:
    """What this interpreter needs to start inside: its prefixes, its executable, and where this package is.

    Not the whole search path: a directory of the user's is readable when the policy says so.
    """
    package = Path(__file__).resolve().parents[2]  # importing a package lists the directory it is in
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    found: list[Path] = []
    for path in [*map(Path, prefixes), Path(sys.executable).resolve().parent, package]:
        for form in (path, path.resolve()):
            if form != Path("/") and not any(form.is_relative_to(known) for known in found):
                found.append(form)
    return [str(path) for path in found]
