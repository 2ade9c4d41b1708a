from __future__ import annotations

from pathlib import Path

import pytest

from capsule.cli.accepted import accept, is_accepted, revoke


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "capsule"


def test_what_was_accepted_is_until_it_is_revoked(state: Path) -> None:
    assert not is_accepted(b"plan")
    accept(b"plan", Path("/p"))
    accept(b"plan\n", Path("/p"))
    assert is_accepted(b"plan")
    assert not is_accepted(b"plan2")
    assert len(list((state / "accepted").iterdir())) == 1
    assert (state / "accepted").stat().st_mode & 0o777 == 0o700
    assert revoke(b"plan")
    assert not revoke(b"plan")
    assert not is_accepted(b"plan")


def test_a_link_is_no_acceptance(state: Path) -> None:
    accept(b"plan", Path("/p"))
    (marker,) = (state / "accepted").iterdir()
    marker.rename(state / "other")
    marker.symlink_to(state / "other")
    assert not is_accepted(b"plan")
