from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from capsem.cli.asking import ask
from capsem.cli.main import main
from capsem.wire.versions import WIRE


def test_versions_are_those_of_what_is_installed(
    tmp_path: Path, capsem_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["version", "--json"])
    assert ended.value.code == 0
    expected = {
        "capsem": metadata.version("capsem"), "capsule": metadata.version("capsule"), "qemu": None, "wire": WIRE,
        "service": None,
    }  # fmt: skip
    assert json.loads(capsys.readouterr().out) == expected
    with pytest.raises(SystemExit):
        main(["version"])
    said = capsys.readouterr().out
    assert "qemu is not installed" in said
    assert "service does not run" in said
    ask("GET", "/machines")
    with pytest.raises(SystemExit):
        main(["version", "--json"])
    service = json.loads(capsys.readouterr().out)["service"]
    pid = int((capsem_home / "run/service.lock").read_text())
    assert service == {name: expected[name] for name in ("capsem", "capsule", "wire")} | {"pid": pid}
    with pytest.raises(SystemExit):
        main(["version"])
    assert f"service {expected['capsem']}, wire {WIRE}" in capsys.readouterr().out
