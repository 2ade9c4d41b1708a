from __future__ import annotations

import json

import pytest

from capsem.cli.main import main
from capsem.host.workspace import Workspace


def test_what_is_kept_is_listed_also_of_a_machine_that_stands(
    machine: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["snapshot", "list", "work"])
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "NAME    CREATED               NAMES  SIZE", "before  2026-01-02T00:00:00Z  1      0.0 MB",
    ]  # fmt: skip
    with pytest.raises(SystemExit):
        main(["snapshot", "list", "work", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["kept_bytes"] == 8
    assert found["snapshots"][0]["name"] == "before"
