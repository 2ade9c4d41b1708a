from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from capsem.processes.monitor.life import live
from capsem.wire.nursery import Begin

pytestmark = pytest.mark.usefixtures("capsem_home")


@pytest.mark.parametrize("kind", ["session", "template"])
def test_what_goes_wrong_is_told_to_the_service(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told, ready = os.pipe()
    (tmp_path / "session.json").write_text("{}")
    (tmp_path / "plan.json").write_text("{}")
    if kind == "session":
        assert live(Begin(session=str(tmp_path)), ready, memory=None, state=None) != 0
        said = json.loads(os.read(told, 4096))
        assert (said["kind"], said["type"]) == ("MachineError", "failed")
        assert "no record of a machine" in said["message"]
        assert os.read(told, 1) == b"", "nothing follows"
        assert "no record of a machine" in capfd.readouterr().err
    else:
        with pytest.raises(Exception, match="plan"):
            live(Begin(template=str(tmp_path / "plan")), ready, memory=None, state=None)
        os.close(ready)
    os.close(told)
