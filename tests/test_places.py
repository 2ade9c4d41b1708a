from __future__ import annotations

from pathlib import Path

import pytest

from capsule.egress import authority
from capsule.places import state_directory


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
