from __future__ import annotations

import json

import pytest

from capsem.cli.main import main
from capsem.host import places
from capsem.vm.lifecycle import State
from capsem.vm.record import Record, encode
from capsem.vm.spec import MachineSpec
from tests.capsem.host.made import made_image


def ended(code: int, *words: str) -> None:
    with pytest.raises(SystemExit) as done:
        main([*words])
    assert done.value.code == code


@pytest.mark.usefixtures("capsem_home")
def test_an_image_of_a_machine_and_no_branch_of_one_that_stands(capsys: pytest.CaptureFixture[str]) -> None:
    places.prepare()
    record = Record(
        id="m-0000000a", spec=MachineSpec(name="build", disk_mib=64), digest=made_image("base").digest,
        created="2026-01-01T00:00:00Z", state=State.STOPPED,
    )  # fmt: skip
    places.session(record.id).mkdir(mode=0o700)
    (places.session(record.id) / "session.json").write_bytes(encode(record))
    with (places.session(record.id) / "disk").open("wb") as file:
        file.truncate(64 << 20)
    ended(0, "fork", "build", "kept", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["base"], found["bytes"]) == ("kept", record.digest, 0)
    ended(1, "fork", "build", "kept")
    assert "there is an image named kept" in capsys.readouterr().err
    ended(0, "image", "list", "--json")
    assert found["digest"] in {one["digest"] for one in json.loads(capsys.readouterr().out)}
    ended(1, "branch", "build", "2")
    assert "build is stopped" in capsys.readouterr().err
    ended(2, "branch", "build", "0")
    ended(1, "image", "rm", "base")
    assert "needed by: m-0000000a, image" in capsys.readouterr().err
