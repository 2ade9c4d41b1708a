from __future__ import annotations

import os

import pytest

from capsem.errors import ConflictError
from capsem.host import limits, places
from capsem.host import usage as measuring
from capsem.host.settings import put, user_file
from capsem.vm.settings import SettingsError
from tests.capsem.host.test_usage import written
from tests.capsem.processes.service.test_registry import left

MIB = 1 << 20
pytestmark = [pytest.mark.usefixtures("capsem_home")]


def test_what_does_not_fit_is_refused_with_all_that_helps() -> None:
    left("m-0000000a", "build")
    written(places.session("m-0000000a") / "disk", 3 * MIB)
    limits.check("a fork", 1 << 50)
    put("limits.home", "8M")
    limits.check("a fork", 2 * MIB)
    limits.check("a fork", 2 * MIB, also=2 * MIB)
    with pytest.raises(ConflictError) as refused:
        limits.check("a fork of 'build'", 6 * MIB)
    said = str(refused.value)
    for word in ("a fork of 'build' does not fit", "6.0M more", "limits.home is 8M", f"{user_file()}:2",
                 "machine build (3.", "capsem clean --dry-run", "capsem config set limits.home"):  # fmt: skip
        assert word in said, word
    with pytest.raises(ConflictError, match=r"others that are being made 4\.0M"):
        limits.check("a fork", 2 * MIB, also=4 * MIB)


def test_whether_there_is_a_limit_is_as_the_settings_say_now() -> None:
    places.prepare()
    assert not limits.limited()
    put("limits.home", "8M")
    assert limits.limited()
    user_file().write_text("[limits]\nhome = 3\n")
    with pytest.raises(SettingsError):
        limits.limited()


def test_without_a_limit_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> measuring.Usage:
        raise AssertionError("it was measured")

    monkeypatch.setattr(limits, "measured", never)
    limits.check("a fork", 1 << 60)
    places.prepare()
    put("limits.home", "8M")
    with pytest.raises(AssertionError, match="it was measured"):
        limits.check("a fork", 1)


def test_settings_that_cannot_be_read_let_nothing_be_made() -> None:
    places.prepare()
    user_file().write_bytes(os.urandom(8) + b"\xff")
    with pytest.raises(SettingsError):
        limits.check("a fork", 1)
