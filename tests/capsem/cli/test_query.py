from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.capsem.cli.served import capsem
from tests.capsem.host.test_recorded import ID, record
from tests.sessions.recorded import machine


@pytest.mark.asyncio
@pytest.mark.usefixtures("capsem_home")
async def test_a_select_and_nothing_else(capsule_binary: Path) -> None:
    log = record(capsule_binary, ID, *machine())
    before = log.read_bytes()
    sql = "SELECT outcome, code FROM commands WHERE code IS NOT NULL"
    assert (await capsem("query", ID, sql)).stdout.decode() == "OUTCOME  CODE\nexited      2\n"
    found = json.loads((await capsem("query", ID, sql, "--json")).stdout)
    assert found == {"columns": ["outcome", "code"], "rows": [["exited", 2]], "more": False}
    done = await capsem("query", ID, "SELECT 1 FROM events", "--limit", "2")
    assert b"--limit 20 shows more" in done.stderr
    refused = await capsem("query", ID, "DELETE FROM events")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"not authorized" in refused.stderr or b"only reads" in refused.stderr, refused.stderr
    assert log.read_bytes() == before
