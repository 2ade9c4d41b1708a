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
def test_it_is_kept_and_a_value_out_of_its_bounds_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "set", "machine.memory", "1G") == 0
    assert capsys.readouterr().out == f"machine.memory = 1G  ({user_file()})\n"
    for wrong in ("1M", "", "lots"):
        assert run("config", "set", "machine.memory", wrong) == 2
    assert user_file().read_text() == '[machine]\nmemory = "1G"\n'
    assert run("config", "set", "limits.machines", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(user_file())
