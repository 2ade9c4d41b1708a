from __future__ import annotations

import json

import pytest

from capsem.cli.main import main
from capsem.host import keeping, places
from capsem.host.settings import put, user_file
from tests.capsem.host.test_keeping import log


@pytest.mark.usefixtures("capsem_home")
def test_it_says_what_would_go_and_why_and_then_removes_it(capsys: pytest.CaptureFixture[str]) -> None:
    places.prepare()
    log("m-0000000c")

    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["clean", *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    shown = said("--dry-run")
    assert "stays" in shown
    assert "clean.logs is none (built-in)" in shown
    assert said() == "nothing to remove\n"
    put("clean.logs", "1")
    shown = said("--dry-run")
    assert "would go" in shown
    assert f"clean.logs is 1 ({user_file()}:2)" in shown
    assert places.log("m-0000000c").exists()
    found = json.loads(said("--json"))
    assert [one["name"] for one in found["goes"]] == ["m-0000000c"]
    assert found["record"] == str(keeping.recorded_at())
    assert not places.log("m-0000000c").exists()
    assert json.loads(keeping.recorded_at().read_text())["name"] == "m-0000000c"
