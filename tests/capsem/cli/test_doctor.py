from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from capsem.cli.main import main
from tests.capsem.cli.served import capsem, served
from tests.capsem.host.made import made_image
from tests.capsem.processes.monitor.standing import USER


@pytest.mark.usefixtures("capsem_home")
def test_what_is_missing_is_named_with_the_line_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    assert ended.value.code == 1
    found = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert not found["qemu"]["ok"]
    assert "apt-get install" in found["qemu"]["what"]
    assert not found["image"]["ok"]
    assert "capsem image build" in found["image"]["what"]
    with pytest.raises(SystemExit):
        main(["doctor"])
    assert "missing  qemu" in capsys.readouterr().out


def looked(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """What it says of this host."""
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    return {row["check"]: row for row in json.loads(capsys.readouterr().out)}


def test_it_looks_at_the_image_that_machines_are_made_from(
    capsem_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = looked(capsys)["image"]
    assert not nothing["ok"]
    assert nothing["what"].startswith("machine.image is default (built-in): no image 'default'")
    assert "capsem image build" in nothing["what"]
    image = made_image("small")
    another = looked(capsys)["image"]
    assert not another["ok"], "what names no image has none"
    assert "capsem config set machine.image, or --image, with one of these: small; or" in another["what"]
    settings = capsem_home / "settings.toml"
    settings.write_text('machine.image = "small"\n')
    configured = looked(capsys)["image"]
    assert (configured["ok"], configured["what"]) == (True, f"small, {image.digest[:12]}")
    settings.write_text('machine.image = "gone"\n')
    gone = looked(capsys)["image"]
    assert not gone["ok"]
    assert f"machine.image is gone ({settings}:1): no image 'gone'" in gone["what"]


def test_settings_that_cannot_be_read_are_one_of_the_answers(
    capsem_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (capsem_home / "settings.toml").write_text("x [\n")
    found = looked(capsys)
    assert not found["settings"]["ok"]
    assert "settings.toml is no TOML" in found["settings"]["what"]
    assert found["disk"]["ok"]


def test_a_home_that_is_none_makes_nothing_else_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path))
    before = looked(capsys)
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path / "file"))
    found = looked(capsys)
    assert "file is no directory" in found["home"]["what"]
    assert {name: found[name]["ok"] for name in ("qemu", "disk", "home")} == {
        "qemu": before["qemu"]["ok"], "disk": before["disk"]["ok"], "home": False,
    }  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.usefixtures("capsem_home")
async def test_a_machine_is_looked_at_from_inside(tmp_path: Path) -> None:
    async with served(tmp_path):
        # Where no machine is around the agent, its program is not where an image has it, nor may it be root.
        looked = await capsem("doctor", "build")
        assert (looked.returncode, looked.stdout) == (127 if USER == 0 else 125, b"")
        assert b"capsem: " in looked.stderr
        unknown = await capsem("doctor", "none")
        assert unknown.returncode == 1
        assert unknown.stderr.startswith(b"capsem: no machine named 'none'\n")
