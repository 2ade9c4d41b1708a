"""The two files, and who may have written the organisation's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.errors import ConflictError
from capsem.host import settings as subject
from capsem.host.settings import load, put, user_file
from capsem.vm.settings import SettingsError

pytestmark = pytest.mark.usefixtures("capsem_home")


@pytest.fixture
def corp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The organisation's file of this test, which only root can make right."""
    place = tmp_path / "capsem/corp.toml"
    place.parent.mkdir(mode=0o755)
    place.write_text('[machine]\nmemory = "1G"\n')
    place.chmod(0o644)
    monkeypatch.setattr(subject, "CORP", place)
    return place


def test_without_a_file_what_is_built_in_holds() -> None:
    assert load().of("machine.cpu").place == "built-in"
    assert put("machine.cpu", "2") == user_file()
    assert load().of("machine.cpu").value == 2
    assert user_file().stat().st_mode & 0o777 == 0o600


@pytest.mark.needs("root")
def test_what_the_organisation_says_is_locked(corp: Path) -> None:
    put("machine.cpu", "2")
    with pytest.raises(ConflictError, match=rf"locked to '1G' by {corp}:2"):
        put("machine.memory", "512M")
    user_file().write_text('[machine]\nmemory = "2G"\n')
    assert load().of("machine.memory").value == "1G"


@pytest.mark.needs("root")
def test_a_file_that_another_could_have_written_is_refused(corp: Path, tmp_path: Path) -> None:
    assert load().of("machine.memory").locked, "the control"
    corp.chmod(0o664)
    with pytest.raises(SettingsError, match="not root's alone"):
        load()
    corp.chmod(0o644)
    os.chown(corp, 12345, 0)
    with pytest.raises(SettingsError, match="not root's alone"):
        load()
    os.chown(corp, 0, 0)
    corp.parent.chmod(0o777)
    with pytest.raises(SettingsError, match="not root's alone"):
        load()
    corp.parent.chmod(0o755)
    real = tmp_path / "real.toml"
    corp.rename(real)
    corp.symlink_to(real)
    with pytest.raises(SettingsError, match="not root's alone"):
        load()


def test_a_file_of_an_ordinary_user_does_not_speak_for_the_host(corp: Path) -> None:
    if os.geteuid() == 0:
        os.chown(corp, 12345, 12345)
    with pytest.raises(SettingsError, match="not root's alone"):
        load()


def test_what_is_no_settings_file_is_said(capsem_home: Path) -> None:
    user_file().write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        load()
    user_file().write_text("#" * (1 << 20) + "#")
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        load()
    assert capsem_home.exists()
