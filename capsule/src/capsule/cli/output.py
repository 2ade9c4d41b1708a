r"""What a verb writes for `--out`: a file in one step, or into what is no file (a pipe, a terminal).

Refuses what cannot be written, in words. A device or a FIFO is written to and never replaced.

    save(Path("learnt.yaml"), b"version: 1\n")
    with lines(Path("events.jsonl")) as file:
        file.write("{}\n")
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from capsule.errors import UsageError
from capsule.profile.trace import write_whole


def save(out: Path, data: bytes) -> None:
    """Write all of it.

    Raises:
        UsageError: it cannot be written.
    """
    with _said(out):
        if out.exists() and not out.is_file():
            with out.open("wb") as file:
                file.write(data)
        else:
            write_whole(out, data)


@contextlib.contextmanager
def lines(out: Path) -> Iterator[TextIO]:
    """A file that is written line by line.

    Raises:
        UsageError: it cannot be written.
    """
    with _said(out), out.open("w", encoding="utf-8") as file:
        yield file


@contextlib.contextmanager
def _said(out: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read it has gone
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written: {error.strerror}", next_step="name another place with --out"
        ) from error
