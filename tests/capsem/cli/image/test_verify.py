from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from capsem.cli.image.verify import command
from tests.capsem.host.made import made_image, overwrite


def test_it_agrees_until_somebody_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path))
    image = made_image()
    good = CliRunner().invoke(command, ["default"])
    assert (good.exit_code, good.output) == (0, f"{image.digest[:12]} agrees: 4 files, 0.0 MB\n")
    overwrite(image.root, b"x")
    bad = CliRunner().invoke(command, ["default"])
    assert bad.exit_code == 1
    assert bad.output.startswith("root.squashfs: has SHA-256")
    as_json = CliRunner().invoke(command, ["default", "--json"])
    answer = json.loads(as_json.output)
    assert (as_json.exit_code, answer["agrees"]) == (1, False)
    assert answer["differences"][0]["path"] == "root.squashfs"
