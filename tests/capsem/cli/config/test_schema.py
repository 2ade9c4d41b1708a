from __future__ import annotations

import json

import pytest

from capsem.cli.main import main
from capsem.vm.settings import schema


def test_it_is_printed_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("--json",)):
        with pytest.raises(SystemExit) as ended:
            main(["config", "schema", *words])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert json.loads(said) == schema()
        assert (said.count("\n") == 1) is bool(words)
