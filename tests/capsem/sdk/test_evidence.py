"""The record of a machine through the SDK, also of one that is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from capsem.errors import NotFoundError
from capsem.host import places
from capsem.sdk.evidence import AsyncEvidence, Evidence
from capsule.sessions.query import QueryError
from tests.capsem.host.test_recorded import ID, record
from tests.sessions.recorded import machine

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_of_one_that_is_gone(capsule_binary: Path) -> None:
    record(capsule_binary, ID, *machine())
    evidence = await AsyncEvidence.of(ID)
    assert evidence.log == places.log(ID)
    assert (await evidence.timeline()).beats[1].verb == "ran"
    assert (await evidence.query("SELECT count(*) FROM commands")).rows == [(3,)]
    assert (await evidence.verify(strict=True)).code == 0
    with pytest.raises(QueryError):
        await evidence.query("DELETE FROM events")
    with pytest.raises(NotFoundError):
        await AsyncEvidence.of("m-00000bad")

    def without_await() -> None:
        plain = Evidence.of(ID)
        assert plain.timeline().beats[1].verb == "ran"
        assert plain.query("SELECT 1").rows == [(1,)]
        assert plain.verify().code == 0

    await asyncio.to_thread(without_await)
