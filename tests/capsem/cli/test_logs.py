from __future__ import annotations

import pytest

from capsem.cli.main import main
from capsem.host import places
from capsem.vm.lifecycle import State
from tests.capsem.processes.service.test_registry import left


@pytest.mark.usefixtures("capsem_home")
def test_the_console_and_the_monitors_complaints(capsys: pytest.CaptureFixture[str]) -> None:
    left("m-00000001", "build", State.STOPPED)
    (places.session("m-00000001") / "console.log").write_bytes(b"Linux\r\n\x1b[2J\n")
    (places.session("m-00000001") / "monitor.log").write_text("it broke\n")
    with pytest.raises(SystemExit):
        main(["logs", "-f", "build"])
    shown = capsys.readouterr()
    assert shown.out == "Linux\n\\x1b[2J\n"
    assert shown.err == "capsem: it broke\n"
