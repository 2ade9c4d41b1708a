from __future__ import annotations

import pytest

from capsem.cli.main import main
from capsem.host.workspace import Workspace


def test_two_that_are_kept_are_compared(machine: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, out in (
        (["base", "before"], 1, "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-one\n+two\n"),
        (["base", "before", "--stat"], 1, "M a\n"),
        (["before", "before"], 0, ""),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["snapshot", "diff", "work", *words])
        assert (ended.value.code, capsys.readouterr().out) == (code, out)
