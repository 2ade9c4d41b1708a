"""What an act has at hand, on the host itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from capsule.attack.inside import CALLS, Inside


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    places = dict.fromkeys(("ws", "home", "outside"), str(tmp_path))
    return Inside(
        json.dumps(
            {
                **places,
                "mark": "the mark",
                "hook": ": > x",
                "confined": False,
                "namespaces": {},
                "extra": {"n": 1},
            }
        )
    )


def test_raw_calls_by_name(inside: Inside, tmp_path: Path) -> None:
    descriptor = inside.sys("openat", -100, str(tmp_path / "made"), os.O_WRONLY | os.O_CREAT, 0o600)
    os.close(descriptor)
    assert (tmp_path / "made").exists()
    with pytest.raises(FileNotFoundError):
        inside.sys("openat", -100, str(tmp_path / "absent"), os.O_RDONLY)


def test_a_call_the_architecture_lacks_is_not_called(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CALLS, "nothing", (None, None))
    with pytest.raises(OSError, match="not on this architecture"):
        inside.sys("nothing")


def test_a_refusal_is_no_fault(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    assert inside.attempt(os.unlink, "/absent/file") is None
    assert "refused" in capsys.readouterr().err


def test_writing_planting_and_reading(inside: Inside, tmp_path: Path) -> None:
    inside.write(str(tmp_path / "a"))
    assert inside.read(str(tmp_path / "a")) == b"the mark"
    inside.plant(str(tmp_path / "hook"))
    assert os.access(tmp_path / "hook", os.X_OK)


def test_a_race_that_may_not_run_is_a_fault_not_a_refusal(inside: Inside) -> None:
    with pytest.raises(RuntimeError, match="does not let"):
        inside.race("text")
