from __future__ import annotations

import pytest

from capsem.cli.main import main
from capsem.host.workspace import Workspace


def test_one_is_removed_with_what_nothing_else_has(
    machine: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, code, out in (
        (["before", "--json"], 0, '{"freed_bytes":4,"name":"before"}\n'),
        (["before"], 1, ""),
        (["base"], 2, ""),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["snapshot", "rm", "work", *words])
        assert (ended.value.code, capsys.readouterr().out) == (code, out)
    assert machine.objects.size() == 4
