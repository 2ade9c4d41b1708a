from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from capsem.host import places
from tests.capsem.cli.served import capsem, served
from tests.capsem.processes.monitor.standing import ID


@pytest.mark.needs("root")
@pytest.mark.asyncio
@pytest.mark.usefixtures("capsem_home")
async def test_what_was_done_in_a_machine_and_what_stays_of_one_that_is_gone(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert (await capsem("exec", "build", "--", "sh", "-c", "exit 7")).returncode == 7
        await asyncio.sleep(0.2)  # what is recorded is on the log within 100 ms
        shown = (await capsem("history", "build")).stdout.decode()
        assert "exec  exit 7   sh -c exit 7" in shown
        found = json.loads((await capsem("history", ID, "--json")).stdout)
        assert [one["what"] for one in found] == ["exec"]
    gone = "m-0badcafe"
    places.log(gone).write_bytes(places.log(ID).read_bytes())
    assert json.loads((await capsem("history", gone, "--json")).stdout) == found
    assert (await capsem("history", "../" + gone)).returncode != 0
    assert (await capsem("history", "m-00000bad")).returncode == 1
