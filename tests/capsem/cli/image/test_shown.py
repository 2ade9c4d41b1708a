from __future__ import annotations

from pathlib import Path

import pytest

from capsem.cli.image.shown import summary
from tests.capsem.host.made import made_image


def test_an_image_in_a_few_fields(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path))
    image = made_image()
    assert summary(image, ["b", "a"]) == {
        "digest": image.digest,
        "names": ["a", "b"],
        "recipe": "default",
        "base": None,
        "kernel": {"flavour": "stock", "version": "6.1"},
        "suite": "bookworm",
        "packages": 1,
        "bytes": 10,
        "directory": str(image.directory),
    }
