from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from capsem.cli.main import main


def test_without_a_terminal_there_is_no_shell(
    capsem_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        main(["shell"])
    assert ended.value.code == 2
    assert "needs a terminal" in capsys.readouterr().err
    assert not (capsem_home / "run").exists()
