from __future__ import annotations

import json

import pytest

from capsem.cli.main import main


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code, capsys.readouterr().out


@pytest.mark.usefixtures("capsem_home")
def test_nothing_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "list") == (0, "no machines; make one with capsem create\n")
    code, out = said(capsys, "list", "--json")
    assert (code, json.loads(out)) == (0, [])
    assert said(capsys, "purge", "--all") == (0, "nothing to remove\n")
    for verb in ("info", "logs", "start", "stop", "delete"):
        assert said(capsys, verb, "none") == (1, "")
