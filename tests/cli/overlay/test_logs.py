"""What a run wrote under an overlay is never put over a log of capsule's, however it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.overlay.conftest import Capsule
from tests.overlay.conftest import Made


@pytest.fixture
def logged(made: Made, capsule_binary: Path, tmp_path: Path) -> Made:
    """The run wrote `two.log`, and removed `audit` and `sub`; logs were begun there on the host since."""
    (made.upper / "two.log").write_text("rubbish\n")
    for name in ("audit", "sub"):
        (made.root / name).mkdir()
        made.whiteout(name)
    for place, log in ((".", "two.log"), (".", "audit/one.log"), ("sub", "capsule.log")):
        record = [str(capsule_binary), "record", "--log", log]
        subprocess.run(
            record,
            cwd=made.root / place,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            input=b'{"type":"exec","run":"r-1"}\n',
            check=True,
            timeout=60,
        )
    return made


def test_force_does_not_reach_a_log(logged: Made, capsule: Capsule) -> None:
    logs = [logged.root / name for name in ("two.log", "audit/one.log", "sub/capsule.log")]
    before = [log.read_bytes() for log in logs]
    answer = capsule("apply", "--yes", "--links", "--force")
    assert answer.returncode == 125
    assert "a log of capsule's stands at" in answer.stderr
    assert "--skip-refused" in answer.stderr
    assert (logged.root / "gone").exists(), "all of it or nothing"
    answer = capsule("apply", "--yes", "--links", "--force", "--skip-refused")
    assert answer.returncode == 0, answer.stderr
    assert [log.read_bytes() for log in logs] == before
    assert not (logged.root / "gone").exists()


def test_what_is_no_log_is_taken_over_as_it_was(logged: Made, capsule: Capsule) -> None:
    # The control: the names alone keep nothing.
    for name in ("two.log", "audit/one.log", "sub/capsule.log"):
        (logged.root / name).write_text("a note of mine\n")
    answer = capsule("apply", "--yes", "--links", "--force")
    assert answer.returncode == 0, answer.stderr
    assert (logged.root / "two.log").read_text() == "rubbish\n"
    assert not (logged.root / "audit").exists()


def test_a_log_that_was_set_aside_is_evidence_too(logged: Made, capsule: Capsule) -> None:
    shutil.move(logged.root / "two.log", logged.root / "away")
    shutil.rmtree(logged.root / "audit")
    (logged.root / "sub" / "capsule.log").rename(logged.root / "sub" / "capsule.log.torn-1")
    answer = capsule("apply", "--yes", "--links", "--force")
    assert answer.returncode == 125
    assert "capsule.log.torn-1" in answer.stderr
