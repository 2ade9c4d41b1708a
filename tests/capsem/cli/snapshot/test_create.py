from __future__ import annotations

import pytest

from capsem.cli.main import main
from capsem.host.workspace import Workspace


def test_a_machine_that_stands_has_nothing_to_keep(
    machine: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["snapshot", "create", "work", "x"])
    assert ended.value.code == 1
    assert "work is stopped" in capsys.readouterr().err
