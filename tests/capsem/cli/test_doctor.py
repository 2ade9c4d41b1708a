from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsem.cli.main import main
from tests.capsem.cli.served import capsem, served
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
