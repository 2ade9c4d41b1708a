"""The judges see harm where there is some, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule.attack import judges
from capsule.attack.case import Launch
from capsule.attack.stage import DENIED, Stage
from tests.attack.launchers import launcher

LOG = '{"seq":0,"type":"run.started"}\n{"seq":1,"type":"run.ended"}\n'


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path, extends="workspace", confined=True, capsule=launcher(tmp_path))
    made.build(Launch())
    made.remember()
    return made


def test_no_harm_at_first(stage: Stage) -> None:
    assert judges.no_harm(stage) is None
    assert judges.none_left(stage) is None
    assert judges.not_heard(stage) is None


def test_a_secret_on_the_output_in_the_workspace_or_at_a_listener(stage: Stage) -> None:
    stage.out = b"x" + stage.secret.encode()
    assert "output" in (judges.no_leak(stage) or "")
    stage.out = b""
    stage.heard.append(stage.secret.encode())
    assert "listener" in (judges.no_leak(stage) or "")
    stage.heard.clear()
    (stage.ws / "loot").write_text(stage.secret)
    assert "ws/loot" in (judges.no_leak(stage) or "")
    (stage.ws / "loot").rename(stage.ws / "src" / DENIED)
    assert judges.no_leak(stage) is None


def test_a_note_of_harm_counts(stage: Stage) -> None:
    stage.notes["harm"] = "seen"
    assert judges.no_harm(stage) == "seen"


@pytest.mark.needs("git")
def test_a_planted_hook_goes_off(stage: Stage) -> None:
    assert judges.no_trap(stage) is None
    hook = stage.ws / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/sh\n: > '{stage.planted}'\n")
    hook.chmod(0o755)
    assert "planted" in (judges.no_trap(stage) or "")


def test_a_log_must_tell_of_the_start_and_the_end(stage: Stage) -> None:
    assert "misses" in (judges.log_sound(stage) or "")
    stage.log.write_text(LOG)
    assert judges.log_sound(stage) is None
    stage.log.write_text(LOG + stage.mark)
    assert "did not write" in (judges.log_sound(stage) or "")


def test_a_log_that_does_not_verify(stage: Stage, tmp_path: Path) -> None:
    stage.log.write_text(LOG)
    stage.report = {"log": {"path": str(stage.log)}}
    assert judges.log_sound(stage) is None
    (tmp_path / "capsule").write_text("#!/bin/sh\necho chain_broken; exit 11\n")
    assert "chain_broken" in (judges.log_sound(stage) or "")


def test_both_says_the_first_harm(stage: Stage) -> None:
    assert judges.both(lambda _: None, lambda _: "second")(stage) == "second"
    assert judges.both(lambda _: None)(stage) is None
