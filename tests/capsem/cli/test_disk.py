from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsem.cli.main import main
from capsem.host import places
from capsem.host.settings import put, user_file
from tests.capsem.host.test_usage import written
from tests.capsem.processes.service.test_registry import left


def test_whose_it_is_and_the_limit(
    capsem_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAPSEM_CACHE", str(tmp_path))
    left("m-0000000a", "build")
    written(places.session("m-0000000a") / "disk")
    (places.run() / "little").parent.mkdir(exist_ok=True)
    (places.run() / "little").write_text("x")
    put("limits.home", "1G")

    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["disk", *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    shown = said()
    assert "machine  build" in shown
    assert f"in {capsem_home}, limits.home is 1G ({user_file()}:2)" in shown
    found = json.loads(said("--json"))
    assert len(found["parts"]) > 1
    assert f"{len(found['parts']) - 1} more" in shown, "what takes next to nothing is one row"
    assert found["bytes"] == sum(part["bytes"] for part in found["parts"])
    assert (found["limit"], found["cache"]) == ("1G", str(tmp_path))
    assert not (capsem_home / "run/service.sock").exists(), "nobody had to be asked"
