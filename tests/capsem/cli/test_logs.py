from __future__ import annotations

from pathlib import Path

import pytest

from capsem.cli import logs
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


@pytest.mark.usefixtures("capsem_home")
def test_following_reads_each_byte_once(tmp_path: Path) -> None:
    place = tmp_path / "console.log"
    console = logs._Console(place)
    assert console.more() == "", "there is none yet"
    place.write_bytes(b"one\r\ntw")
    assert console.more() == "one\ntw"
    assert console.more() == ""
    with place.open("ab") as file:
        file.write("o €".encode()[:-1])
    assert console.more() == "o "
    # What was read is not read again: were it, this would be seen.
    place.write_bytes(b"X" * (place.stat().st_size) + "€".encode()[-1:] + b"!\xe2")
    assert console.more() == "€!"
    assert console.more() == ""
    assert console.rest() == "\ufffd"
