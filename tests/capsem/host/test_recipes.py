from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import ImageError, NotFoundError
from capsem.host.recipes import kernel_config, load
from tests.capsem.vm.test_npm_lock import lock


def test_ours_by_name() -> None:
    assert load("minimal").name == "minimal"
    assert "CONFIG_MODULES=n" in kernel_config()


def test_a_file_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('version = 1\nname = "mine"\nsuite = "bookworm"\nepoch = 2025-11-01T00:00:00Z\n')
    assert load(str(path)).name == "mine"


def test_a_lock_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'version = 1\nname = "mine"\nsuite = "bookworm"\nepoch = 2025-11-01T00:00:00Z\n'
        'npm_lock = "x.json"\nnpm = { a = "1" }\n'
    )
    with pytest.raises(ImageError, match=r"x\.json cannot be read"):
        load(str(path))
    (tmp_path / "x.json").write_text(lock({"a": "1"}))
    assert load(str(path)).npm == {"a": "1"}


def test_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as raised:
        load("nothing")
    assert "default" in raised.value.next_step
    with pytest.raises(NotFoundError):
        load(str(tmp_path / "x.toml"))


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(ImageError, match="cannot be read"):
        load(str(tmp_path / "x.toml"))
    with pytest.raises(ImageError, match="cannot be read"):
        load(f"{tmp_path}/")
