from __future__ import annotations

import json

import pytest

from capsem.cli.main import main
from capsem.host.settings import user_file


def run(*words: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


@pytest.mark.usefixtures("capsem_home")
def test_one_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    user_file().write_text("[machine]\ncpu = 2\n")
    assert run("config", "get", "machine.cpu") == 0
    assert capsys.readouterr().out == "2\n"
    assert run("config", "get") == 0
    assert f"machine.cpu      2        {user_file()}:2\n" in capsys.readouterr().out
    assert run("config", "get", "--json") == 0
    assert json.loads(capsys.readouterr().out)["machine.memory"] == "512M"
    assert run("config", "get", "machine.cpus") == 2
    assert "did you mean machine.cpu?" in capsys.readouterr().err
