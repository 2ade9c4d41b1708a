from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsem.host import places
from tests.capsem.cli.served import capsem, served
from tests.capsem.host.test_recorded import record
from tests.capsem.processes.monitor.standing import ID
from tests.sessions.recorded import dns, machine, model

GONE = "m-0badcafe"


@pytest.mark.needs("root")
@pytest.mark.asyncio
@pytest.mark.usefixtures("capsem_home")
async def test_the_story_of_a_machine_that_runs_and_of_one_that_is_gone(
    tmp_path: Path, capsule_binary: Path
) -> None:
    run = f"r-{GONE}"
    guest = {
        "program": {"path": "/bin/\x1b[2Jgetent", "name": "\x1b[2Jgetent", "pid": 1, "reported_by": "guest"}
    }
    record(capsule_binary, GONE, *machine(), {**dns("evil.example", run), **guest}, model(run=run))
    async with served(tmp_path):
        assert (await capsem("exec", "build", "--", "sh", "-c", "exit 7")).returncode == 7
        shown = (await capsem("timeline", "build")).stdout.decode()
        assert "ran       sh -c exit 7" in shown
        assert f"{ID}  build  running" in shown
        found = json.loads((await capsem("timeline", ID, "--json")).stdout)
        assert next(one["what"] for one in found["story"]) == "ran"
        done = await capsem("timeline", GONE)
        shown = done.stdout.decode()
        assert f"{GONE}  -  deleted" in shown
        assert "refused   host run rm -r" in shown
        assert "not here (rules.yaml:3)" in shown
        assert "\x1b" not in shown
        assert (await capsem("timeline", GONE[:6])).stdout == done.stdout, "the beginning of an id is enough"
        assert (await capsem("timeline", "m-00000bad")).returncode == 1
        assert (await capsem("timeline", f"../logs/{GONE}")).returncode == 1
    assert places.log(GONE).exists()
