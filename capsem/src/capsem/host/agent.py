"""Where the guest's agent is: the static program that becomes process 1 of a machine.

Refuses to guess: `CAPSEM_AGENT`, else the file beside this interpreter's programs, else the repository's own build.

    find_agent()                         # …/bin/capsem-agent
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from capsem.errors import ImageError

NAME = "capsem-agent"
_ELF_X86_64 = (b"\x7fELF\x02\x01", b"\x3e\x00")
_REPOSITORY = Path(__file__).resolve().parents[3]


def find_agent(given: Path | None = None) -> Path:
    """The agent's program.

    Args:
        given: take this one.

    Raises:
        ImageError: there is none, or it is not a program for the guest.
    """
    named = os.environ.get("CAPSEM_AGENT")
    candidates = [given] if given is not None else [Path(named)] if named else _installed()
    for candidate in candidates:
        if candidate.is_file():
            _check(candidate)
            return candidate
    raise ImageError(
        f"no {NAME} at {', '.join(map(str, candidates))}",
        next_step="build it (make setup), or name one with --agent or CAPSEM_AGENT",
    )


def _installed() -> list[Path]:
    built = sorted(_REPOSITORY.glob(f"agent/target/*/release/{NAME}"))
    return [Path(sys.prefix, "bin", NAME), *built]


def _check(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(20)
    if not (head.startswith(_ELF_X86_64[0]) and head[18:20] == _ELF_X86_64[1]):
        raise ImageError(
            f"{path} is not a program for x86_64", next_step="name the guest's agent with --agent"
        )
