from __future__ import annotations

from pathlib import Path

import pytest

from capsule.egress import authority
from capsule.places import data_directory, make_private, state_directory


@pytest.mark.parametrize(
    ("named", "expected"),
    [("/s", "/s/capsule"), (None, "/home/u/.local/state/capsule"), ("", "/home/u/.local/state/capsule"),
     ("relative/s", "/home/u/.local/state/capsule")],
)  # fmt: skip
def test_where_state_lies(monkeypatch: pytest.MonkeyPatch, named: str | None, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    if named is None:
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_STATE_HOME", named)
    assert state_directory() == Path(expected)
    assert authority.directory() == Path(expected) / "egress"


def test_where_data_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    for named, expected in (("/d", "/d/capsule"), ("x/d", "/home/u/.local/share/capsule")):
        monkeypatch.setenv("XDG_DATA_HOME", named)
        assert data_directory() == Path(expected)
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_directory() == Path("/home/u/.local/share/capsule")


def test_what_is_made_above_is_as_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for _ in range(2):
        make_private(tmp_path / "state/capsule/egress")
    made = [tmp_path, *(tmp_path / name for name in ("state", "state/capsule", "state/capsule/egress"))]
    assert [one.stat().st_mode & 0o777 for one in made] == [0o755, 0o700, 0o700, 0o700]
