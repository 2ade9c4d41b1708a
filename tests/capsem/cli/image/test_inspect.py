from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from capsem.cli.image.inspect import command
from capsem.vm.image import Manifest
from tests.capsem.host.made import made_image


def test_a_person_a_program_and_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path))
    image = made_image()
    shown = CliRunner().invoke(command, ["default"], catch_exceptions=False).output
    assert f"digest:    {image.digest}" in shown
    assert "kernel:    stock 6.1, 0.0 MB" in shown
    as_json = CliRunner().invoke(command, ["default", "--json"], catch_exceptions=False).output
    assert Manifest.parse(as_json.encode()) == image.manifest
    listed = CliRunner().invoke(command, ["default", "--packages"], catch_exceptions=False).output
    assert listed.splitlines()[1].split() == ["deb", "bash", "5.2"]
