from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import UsageError
from capsem.host import paths


def test_the_places_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path / "h"))
    monkeypatch.setenv("CAPSEM_CACHE", str(tmp_path / "c"))
    assert (paths.home(), paths.images(), paths.sessions()) == (
        tmp_path / "h", tmp_path / "h/images", tmp_path / "h/sessions",
    )  # fmt: skip
    assert paths.cache() == tmp_path / "c"


def test_the_places_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CAPSEM_HOME", "CAPSEM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.home() == tmp_path / ".capsem"
    assert paths.cache() == tmp_path / ".cache/capsem"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert paths.cache() == tmp_path / "x/capsem"


def test_a_relative_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSEM_HOME", "here")
    with pytest.raises(UsageError, match="not absolute"):
        paths.home()


@pytest.mark.parametrize("variable", ["CAPSEM_HOME", "CAPSEM_CACHE"])
def test_what_is_no_directory_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "leads-nowhere").symlink_to("gone")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    place = {"CAPSEM_HOME": paths.home, "CAPSEM_CACHE": paths.cache}[variable]
    for wrong in ("file", "file/below", "leads-nowhere"):
        monkeypatch.setenv(variable, str(tmp_path / wrong))
        with pytest.raises(UsageError, match=f"{wrong} is no directory") as caught:
            place()
        assert caught.value.next_step == f"set {variable} to a directory of yours"
    for right in ("there", "link", "not-yet"):
        monkeypatch.setenv(variable, str(tmp_path / right))
        assert place() == tmp_path / right
