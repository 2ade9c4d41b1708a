from __future__ import annotations

from pathlib import Path

import pytest

from capsem.cli.main import main
from capsem.vm.lifecycle import State
from tests.capsem.host.test_recorded import ID, record
from tests.capsem.processes.service.test_registry import left
from tests.sessions.recorded import machine


@pytest.mark.usefixtures("capsem_home")
def test_a_machine_that_stands(capsys: pytest.CaptureFixture[str]) -> None:
    left("m-00000001", "build", State.STOPPED)
    with pytest.raises(SystemExit):
        main(["info", "build"])
    shown = capsys.readouterr().out
    assert "state:        stopped\n" in shown
    assert "problem" not in shown, "what there is not is not shown"
    with pytest.raises(SystemExit) as ended:
        main(["exec", "build", "true"])
    assert ended.value.code == 1
    assert "capsem start build" in capsys.readouterr().err


@pytest.mark.usefixtures("capsem_home")
def test_a_machine_that_was_deleted_is_what_its_log_tells(
    capsule_binary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(capsule_binary, ID, *machine())
    with pytest.raises(SystemExit) as ended:
        main(["info", ID])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "state:        deleted\n" in shown
    assert "recorded:     9 entries, 1 commands, 2 refused\n" in shown
    with pytest.raises(SystemExit) as ended:
        main(["info", "m-00000bad"])
    assert ended.value.code == 1
