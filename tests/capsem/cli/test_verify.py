from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.capsem.cli.served import capsem
from tests.capsem.host.test_recorded import ID, record
from tests.sessions.recorded import machine


@pytest.mark.asyncio
@pytest.mark.usefixtures("capsem_home")
async def test_a_sound_log_and_one_that_was_changed(capsule_binary: Path) -> None:
    log = record(capsule_binary, ID, *machine())
    done = await capsem("verify", ID)
    assert done.returncode == 0, done
    assert done.stdout.decode().startswith(f"verified  {log}\n")
    found = json.loads((await capsem("verify", ID, "--json", "--strict", "--quick")).stdout)
    assert (found["machine"], found["code"], found["outcome"]) == (ID, 0, "verified")
    log.write_bytes(log.read_bytes().replace(b"not here", b"all fine"))
    assert (await capsem("verify", ID)).returncode not in (0, 125)
    found = json.loads((await capsem("verify", ID, "--json")).stdout)
    assert found["code"] not in (0, 125)
