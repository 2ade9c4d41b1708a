from __future__ import annotations

import pytest

from capsem.cli.main import main
from capsem.host.workspace import Workspace


def test_a_machine_that_stands_takes_nothing_back(
    machine: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["snapshot", "revert", "work", "before"])
    assert ended.value.code == 1
    assert "work is stopped" in capsys.readouterr().err
