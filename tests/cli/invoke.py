"""Runs the Python verbs as the native binary does, within this process: exit code, standard output, standard error.

invoke(capsys, "policy", "check", "workspace").code
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from capsule.cli.main import main


@dataclass(frozen=True)
class Answer:
    """What came out."""

    code: int
    out: str
    err: str


def invoke(capsys: pytest.CaptureFixture[str], *arguments: str) -> Answer:
    """One verb."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    captured = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return Answer(caught.value.code, captured.out, captured.err)


def unread(*arguments: str) -> tuple[int, str]:
    """The exit code and standard error of a program whose reader has gone before it says anything."""
    ours, theirs = os.pipe()
    os.close(ours)
    script = f"from capsule.cli.main import main\nmain({list(arguments)!r})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    return done.returncode, done.stderr
