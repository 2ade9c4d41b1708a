from __future__ import annotations

import json

import pytest

from capsem.cli.main import main
from capsem.vm.lifecycle import State
from tests.capsem.processes.service.test_registry import left


@pytest.mark.usefixtures("capsem_home")
def test_machines_that_stand_are_removed(capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("one", "two", "three")):
        left(f"m-0000000{number}", name, State.STOPPED)

    def said(*words: str) -> object:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        assert ended.value.code == 0
        return json.loads(capsys.readouterr().out)

    assert said("delete", "one") == {"id": "m-00000000", "state": "deleted"}
    assert said("stop", "two") == {"id": "m-00000001", "state": "stopped"}
    assert said("purge") == {"deleted": ["m-00000001", "m-00000002"], "logs": []}
    assert said("list") == []


@pytest.mark.usefixtures("capsem_home")
def test_several_are_deleted_at_once_and_one_that_cannot_be_keeps_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number, name in enumerate(("one", "two")):
        left(f"m-0000000{number}", name, State.STOPPED)
    with pytest.raises(SystemExit) as ended:
        main(["delete", "one", "none", "two"])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.out == "m-00000000 deleted\nm-00000001 deleted\n"
    assert said.err.startswith("capsem: no machine named 'none'\n")
