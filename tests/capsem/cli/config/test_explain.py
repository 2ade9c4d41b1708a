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
def test_which_file_decides(capsys: pytest.CaptureFixture[str]) -> None:
    user_file().write_text("[machine]\ncpu = 2\n")
    assert run("config", "explain", "machine.cpu") == 0
    shown = capsys.readouterr().out
    assert f"decided by {user_file()}:2\n" in shown
    assert "passed over: 1 of built-in\n" in shown
    assert run("config", "explain", "machine.cpu", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["value"], found["locked"], found["passed_over"]) == (
        2,
        False,
        [{"from": "built-in", "value": 1}],
    )
