"""A made overlay, and the command line that finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.overlay.conftest import Made

Capsule = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """One file changed, one added with a hostile name and hostile content, one removed."""
    made = Made(tmp_path)
    (made.root / "a.txt").write_text("one\ntwo\n")
    (made.root / "gone").write_text("1\n")
    made.begin()
    (made.upper / "a.txt").write_text("one\nthree\n")
    (made.upper / "n\n\x1b[2J").write_text("\x1b]0;owned\x07\n")
    (made.upper / "binary").write_bytes(b"\0\1")
    (made.upper / "out").symlink_to("/etc/passwd")
    made.whiteout("gone")
    return made


@pytest.fixture
def capsule(tmp_path: Path) -> Capsule:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "capsule.cli", *arguments],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
