from __future__ import annotations

import json

import pytest

from capsem.cli.main import main
from capsem.host import places
from capsem.vm.lifecycle import State
from tests.capsem.processes.service.test_registry import left


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


@pytest.mark.usefixtures("capsem_home")
def test_what_a_machine_takes_on_the_disk(capsys: pytest.CaptureFixture[str]) -> None:
    left("m-00000001", "build", State.STOPPED)
    (places.session("m-00000001") / "disk").write_bytes(b"x" * 3_000_000)
    code, out = said(capsys, "list", "--json")
    assert code == 0
    (one,) = json.loads(out)
    assert 3_000_000 <= one["disk_bytes"] < 3_200_000
    head, row = said(capsys, "list")[1].splitlines()
    assert "ON DISK" in head
    assert "3.0 MB" in row or "3.1 MB" in row
