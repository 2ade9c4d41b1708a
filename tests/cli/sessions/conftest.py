from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.log import Log
from tests.sessions.recorded import session


@pytest.fixture
def log(capsule_binary: Path, workspace: Path) -> Log:
    """`./capsule.log` with one recorded session in it."""
    made = Log(capsule_binary, workspace / "capsule.log")
    assert made.record(session("r-1")).returncode == 0
    return made
