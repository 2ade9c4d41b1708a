from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from capsem.cli.main import main


def test_versions_are_those_of_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["version", "--json"])
    assert ended.value.code == 0
    expected = {"capsem": metadata.version("capsem"), "capsule": metadata.version("capsule"), "qemu": None}
    assert json.loads(capsys.readouterr().out) == expected
    with pytest.raises(SystemExit):
        main(["version"])
    assert "qemu is not installed" in capsys.readouterr().out
