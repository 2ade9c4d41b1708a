from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from capsem.cli.image.rm import command
from capsem.errors import NotFoundError
from capsem.host import images
from tests.capsem.host.made import made_image


def test_it_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path))
    image = made_image()
    assert image.digest[:12] in CliRunner().invoke(command, ["default"], catch_exceptions=False).output
    assert images.everything() == []
    made_image()
    answer = json.loads(CliRunner().invoke(command, ["default", "--json"], catch_exceptions=False).output)
    assert answer == {"removed": image.digest, "bytes": 10}
    with pytest.raises(NotFoundError):
        CliRunner().invoke(command, ["default"], catch_exceptions=False)
