"""A directory for as long as something lasts."""

from __future__ import annotations

import errno
import tempfile

import pytest

from capsule.temporary import TemporaryError, directory


def test_it_goes_with_what_is_in_it() -> None:
    with directory("capsule-test-") as place:
        (place / "a").mkdir()
        assert place.name.startswith("capsule-test-")
    assert not place.exists()


def test_one_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(TemporaryError, match="No space left on device") as error, directory("x"):
        pass
    assert "TMPDIR" in error.value.next_step
