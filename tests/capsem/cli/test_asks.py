from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.capsem.cli.served import capsem, served

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_nothing_waits(tmp_path: Path) -> None:
    async with served(tmp_path):
        done = await capsem("asks", "--wait", "1")
        assert (done.returncode, done.stdout) == (1, b"nothing waits for an answer\n")
        done = await capsem("asks", "--json")
        assert (done.returncode, json.loads(done.stdout)) == (1, {"asks": []})
